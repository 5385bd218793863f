"""Strikes files, versions and answers with faults, and looks whether promises hold: `make chaos`, docs/reliability.md.

``nth_call`` lets the n-th call that touches the disk fail, for every n; ``damage`` spoils files; ``histories`` checks
that promotions and roll-backs of several processes have an order. All is drawn from a seed.
"""
