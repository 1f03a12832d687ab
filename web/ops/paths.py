"""All pages of the dashboard, by path."""

from web.ops.adjusting import ADJUST_PATH, Adjust
from web.ops.board import WORKERS_PATH, Overview, OwnFigures, OwnRowsCounted, Workers
from web.ops.cluster import FIGURES_PATH
from web.ops.dashboard import ROWS_PATH
from web.ops.files import FILE_PATH, OpsFile
from web.ops.letter_pages import (
    LETTER_PATH,
    LETTERS_PATH,
    REDRIVE_PATH,
    LetterPage,
    LettersPage,
    Redrive,
)
from web.ops.login import LOGOUT_PATH, Login, Logout
from web.ops.merchant_pages import MERCHANT_PATH, MERCHANTS_PATH, MerchantPage, MerchantsPage
from web.ops.views import LOGIN_PATH, OPS_PATH
from web.views import ApiView

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
