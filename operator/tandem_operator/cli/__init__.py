"""`tandem`, also `kubectl tandem`: what a person asks about a deployment from the command line."""
