"""What testers write: a mesh, a workload, faults and checks in one TOML file, read into typed frozen records.

``records`` are the words, ``verbs`` the faults, ``places`` the map of Europe, ``reader`` the one door for files,
``plan`` what a seed makes of a scenario: data alone, the same for every world.
"""
