"""What can go wrong with the local cluster, as one exception whose text tells the user what to do.

Nothing else belongs here.
"""


class ClusterError(Exception):
    """The local cluster cannot do what was asked.

    The text names the cause, the value and, where there is one, the log to read.
    """
