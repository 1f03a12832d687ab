"""All pages of the dashboard, and what workers tell each other for them."""

from billing_stream.web.operation import Operation
from billing_stream.web.ops import (
    adjusting,
    board,
    catalogue_page,
    extending,
    files,
    letter_pages,
    login,
    merchant_pages,
    shop_setting,
)

OPERATIONS: tuple[Operation, ...] = (
    board.overview,
    board.workers,
    letter_pages.letters,
    letter_pages.show_letter,
    letter_pages.show_redrive,
    letter_pages.redrive,
    merchant_pages.merchants,
    merchant_pages.merchant,
    adjusting.show_adjustment,
    adjusting.adjust,
    catalogue_page.show_catalogue,
    extending.show_extension,
    extending.extend,
    shop_setting.show_shop,
    shop_setting.set_shop,
    login.show_login,
    login.login,
    login.logout,
    files.get_file,
    board.own_figures,
    board.own_rows,
)
