"""How rows stand in the database: MessagePack, smaller than the changelogs' JSON and sooner read.

No other version of this program reads it: what is on the disk ends with the process.
"""

import msgspec

from billing_stream.domain.model import Adjustment, Merchant, Purchase
from billing_stream.domain.outcomes import StoredResponse

pack = msgspec.msgpack.Encoder().encode
merchant = msgspec.msgpack.Decoder(Merchant).decode
purchase = msgspec.msgpack.Decoder(Purchase).decode
adjustment = msgspec.msgpack.Decoder(Adjustment).decode
answer = msgspec.msgpack.Decoder(StoredResponse).decode
