"""What every black-box test of remuda uses: named checks, the emulator, QMP, the test guest."""
