"""The services of Trimtab, one package each. None imports another, the command line excepted."""

import os

# OpenMP's threads wait by spinning. Where other processes want the cores too, boosting on two cores
# then takes many times as long as on one. Read when scikit-learn is loaded, so said before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
