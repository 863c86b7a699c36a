"""`nightrank doctor`: what is wrong with a shop before a night finds out, and how to mend it.

One file per room; each check is a plain function that looks at one thing and changes nothing that
stays. Checks do not depend on each other: one that breaks is a finding like any other.
"""
