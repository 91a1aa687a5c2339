"""What all parties must agree on: messages, prices, events, contracts."""
