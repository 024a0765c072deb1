# SPDX-License-Identifier: AGPL-3.0-only
"""One fault under load on all sites, watched, and audited when it is over."""
import random
import time

from audit import Audit
from load import Load
from sampler import Sampler


def under_load(bed, rid, shared, fault, seed, before=2):
    """Faults at instants that the seed decides; returns what there was to see, for a report."""
    rng = random.Random(f"{seed}/{fault.name}")
    audit = Audit(bed)
    began = time.monotonic()
    with Load(bed, rid, shared, seed) as load:
        with Sampler(bed, load) as sampler:
            load.wait(before)
            fault.make(bed, load, rng)
            bed.restore()
            load.stop()
            loaded = time.monotonic() - began
            audit.settle(load, 180)
            drained = time.monotonic() - began - loaded
        sampler.check()
    audit.check(load, **fault.audit)
    return {"operations": len(load.accepted()), "failures": len(load.failures), "samples": sum(sampler.samples.values()),
            "compared": sampler.compared, "seconds": [round(loaded), round(drained), round(time.monotonic() - began)]}
