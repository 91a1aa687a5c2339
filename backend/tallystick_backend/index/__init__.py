"""From the chain to rows: `follow` reads blocks, `project` (pure) says what an event changes,
`record` writes cursor and rows in one transaction, `start` refuses the wrong chain."""
