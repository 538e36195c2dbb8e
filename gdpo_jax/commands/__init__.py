"""The command line of the library; experiments use its parts as well."""
