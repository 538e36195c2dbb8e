"""Learning control: what of a user's conversations the shared model may learn, and what stays his
own."""
