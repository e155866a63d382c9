from contextlib import contextmanager


@contextmanager
def writing_duplicates(*a):
    yield


def write_duplicates(*a):
    pass
