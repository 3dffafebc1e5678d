def stroke():
    return "~"
