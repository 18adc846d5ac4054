"""What Interlock does in a second, beside what the machine and the driver could do in the same run.

`python -m benchmarks` (or `make bench`) prints a table and writes `results.json`. Absolute numbers
say as much about the machine as about Interlock. So each is taken in turns with a yardstick (a
server that does nothing; the database's driver alone), and what counts is their ratio:

    echo, Interlock, echo, Interlock, ...   or   raw, Interlock, raw, Interlock, ...

Each measure proves that its work was done, by reading it back, before its number is believed.
"""
