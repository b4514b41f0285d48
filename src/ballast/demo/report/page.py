def write(outcome, path): pass
