"""As much of protobuf's wire format as the loads and the large schema need."""


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    """A field that holds bytes, a text, or a number that is not negative."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(message):
    """Number, value and all bytes of each field, in order. Fixed-width values stay bytes."""
    at = 0
    while at < len(message):
        start = at
        tag, at = read_varint(message, at)
        if tag & 7 == 0:
            value, at = read_varint(message, at)
        else:
            length, at = read_varint(message, at) if tag & 7 == 2 else (8 if tag & 7 == 1 else 4, at)
            value, at = message[at : at + length], at + length
        yield tag >> 3, value, message[start:at]


def values(message, wanted):
    """What a message has in one of its fields, in order."""
    return [value for number, value, _ in fields(message) if number == wanted]


def text(message, wanted):
    """A field that is a text; empty if it is not there."""
    return b"".join(values(message, wanted)[-1:]).decode()


def read_varint(message, at):
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
