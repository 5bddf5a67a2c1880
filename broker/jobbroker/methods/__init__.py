"""One module per namespace of the protocol: method name -> (parameters, handler)."""
