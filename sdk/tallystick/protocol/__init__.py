"""What all parties must agree on: messages, prices, events, contracts. No input or output of its own."""
