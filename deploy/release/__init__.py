"""`python -m deploy.release VERSION`: everything that a release consists of, into `build/release/VERSION/`.

Whoever builds the same commit again gets the same bytes. Nothing here signs or publishes: that is what
`.github/workflows/release.yml` does.
"""
