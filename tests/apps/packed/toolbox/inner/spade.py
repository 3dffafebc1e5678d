def spade():
    return 21
