"""Published methods other than the paper's four frameworks, one small file each.

Imports only engine and what lies at the bottom: errors, folders, plugins and lazy.
"""

from nascore.methods.drnas import DrNAS as DrNAS
from nascore.methods.fairdarts import FairDARTS as FairDARTS
from nascore.methods.gdas import GDAS as GDAS
from nascore.methods.pcdarts import PCDARTS as PCDARTS
from nascore.methods.reinforce import REINFORCE as REINFORCE
from nascore.methods.released import ReleasedDSNAS as ReleasedDSNAS
