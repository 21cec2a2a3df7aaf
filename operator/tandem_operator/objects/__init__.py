"""One builder per child object. Each returns the complete manifest and reads like it. Pure.

Builders write values as the API server gives them back (quantities in canonical form, no defaults spelt otherwise),
since an object is applied again when what is there does not contain what we want.
"""
