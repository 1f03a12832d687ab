"""All pages of the dashboard, by path."""

from billing_stream.web.ops.adjusting import ADJUST_PATH, Adjust
from billing_stream.web.ops.board import WORKERS_PATH, Overview, OwnFigures, OwnRowsCounted, Workers
from billing_stream.web.ops.dashboard import ROWS_PATH
from billing_stream.web.ops.files import FILE_PATH, OpsFile
from billing_stream.web.ops.letter_pages import (
    LETTER_PATH,
    LETTERS_PATH,
    REDRIVE_PATH,
    LetterPage,
    LettersPage,
    Redrive,
)
from billing_stream.web.ops.login import LOGOUT_PATH, Login, Logout
from billing_stream.web.ops.merchant_pages import (
    MERCHANT_PATH,
    MERCHANTS_PATH,
    MerchantPage,
    MerchantsPage,
)
from billing_stream.web.ops.ops_views import LOGIN_PATH, OPS_PATH
from billing_stream.web.peer_client import FIGURES_PATH
from billing_stream.web.views import ApiView

PAGES: tuple[tuple[str, type[ApiView]], ...] = (
    (OPS_PATH, Overview),
    (WORKERS_PATH, Workers),
    (LETTERS_PATH, LettersPage),
    (LETTER_PATH, LetterPage),
    (REDRIVE_PATH, Redrive),
    (MERCHANTS_PATH, MerchantsPage),
    (MERCHANT_PATH, MerchantPage),
    (ADJUST_PATH, Adjust),
    (LOGIN_PATH, Login),
    (LOGOUT_PATH, Logout),
    (FILE_PATH, OpsFile),
    (FIGURES_PATH, OwnFigures),
    (ROWS_PATH, OwnRowsCounted),
)
