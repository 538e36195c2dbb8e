"""What is recommended and what it risks: catalogues, titles, traits, and the fusion of risks."""
