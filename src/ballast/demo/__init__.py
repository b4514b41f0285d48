"""The replay of 23 February 2020: a platform of shops under live shoppers, its database destroyed, and what became of them.

`ballast demo` runs it, with real parts only: `ballast up` in a folder of its own (`stage`), seeded shops, shoppers and merchants
over real HTTP (`crowd`, `shopping`, `merchants`), somebody with the rights to do it who deletes every row and removes the
server's data (`engineer`), and, if wanted, SIGKILL to whoever serves or brings things back (`killer`). Where he changed data
instead, it is undone with the commands that anybody would use (`undoing`). What shoppers were promised stands
in a `ledger`; what they met, in a list of `visits`. Afterwards `proof` looks for every promise in the database, `promises` says
which were kept, and `report` writes it down. `replay.run` is the whole of it; `kills` runs many.
"""
