"""The configuration: the only reader of environment variables and files of settings.

Data flows one way: `sources` reads and checks each source by the table in `schema` (whose value forms are in `forms`)
→ `load` merges them → `settings` holds what is in force → `limits` turns it into what the rules apply. `live` has a
running process follow its files.
"""

from cross_instance.config.forms import account_names
from cross_instance.config.limits import greatest_burst
from cross_instance.config.live import LiveSettings
from cross_instance.config.load import check_arguments, load_settings, sources_of
from cross_instance.config.schema import SETTINGS, Setting
from cross_instance.config.settings import (
    NO_EFFECT,
    Adaptive,
    Entry,
    Instance,
    Limits,
    Provider,
    Settings,
    full_address,
    without_password,
)

__all__ = [
    "NO_EFFECT",
    "SETTINGS",
    "Adaptive",
    "Entry",
    "Instance",
    "Limits",
    "LiveSettings",
    "Provider",
    "Setting",
    "Settings",
    "account_names",
    "check_arguments",
    "full_address",
    "greatest_burst",
    "load_settings",
    "sources_of",
    "without_password",
]
