"""Each way to make the recorder blind, and that somebody hears of it: the table of docs/capture-integrity.md, line by line.

Every test does to production what an insider (or a tired administrator) might, and then asks for three things: an alarm
that says what was done, a gap whose positions enclose what was lost, and that capture is whole again, or that nothing
is acknowledged as long as it is not.
"""
