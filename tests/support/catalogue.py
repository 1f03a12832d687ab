"""The catalogue of the default settings, as the verifier takes it."""

from billing_stream.audit.verify.model_state import Catalogue
from billing_stream.domain.policy import Policy

CATALOGUE = Catalogue.of(Policy())
