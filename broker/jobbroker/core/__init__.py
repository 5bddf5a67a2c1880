"""The pure core: decisions as functions of values. No trio, no clock, no operating system."""
