"""Persona leakage: does what an assistant learnt with one person reach another one?"""
