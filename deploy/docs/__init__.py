"""`python -m deploy.docs`: the reference pages, from what the code itself says. Nothing here builds or serves them."""
