"""Commands of CURaTe besides those of every experiment."""
