"""No deadline for an example: others use the machine too. What must be quick is measured in CPU time, by its test."""

from hypothesis import settings

if settings.get_current_profile_name() == "default":
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")
