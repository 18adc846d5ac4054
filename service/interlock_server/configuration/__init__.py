"""Where the values of settings come from: flags, the environment, a profile, defaults.

`interlock_server.settings` defines the settings; `catalogue` tells of them by name, `sources` finds
their values, `profiles` keeps named sets of them in a file.
"""
