"""The platform as a whole, run on one machine: `ballast up`.

Here, and nowhere else, the mall meets what protects it: a server (our own, or one that the settings name), the structure, the
recorder that every commit waits for, the web face, the worker, the sandbox payment provider. `settings` says what is wanted and
`platform` what follows from it; `prepare` makes a database ready and protects it; `parts` names the programs and in which order
they start and stop, as data for `ballast.supervise`; `run` joins these.
"""
