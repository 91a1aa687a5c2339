"""All SQL. A repository is a module of functions that take the session first; each is one question
or one change with a name from the vocabulary. None of them commits: the edge does."""
