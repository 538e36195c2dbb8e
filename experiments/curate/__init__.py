"""CURaTe and MIRROR: does a model remember what is dangerous for its user, and can it be taught?"""
