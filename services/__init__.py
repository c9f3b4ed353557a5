"""The services of Trimtab, one package each. None imports another, the command line excepted."""

import os

# OpenMP's threads wait for each other by spinning. Long spins keep the cores from whoever works:
# where other processes want them too, a boosting's fit takes a hundred times as long. Sleeping at
# once makes it five times as long on cores of its own. So: spin a little, then sleep. Read when
# scikit-learn is loaded, so said before.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
