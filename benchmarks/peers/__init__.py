"""Other people's engines on our data, in our process; none of them is imported before it runs."""
