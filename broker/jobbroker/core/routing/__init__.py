"""One backend for many clients, as a state machine: messages, arrivals and times in, effects out. Knows no Trio."""
