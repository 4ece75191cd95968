"""Reading a file of purchase lines: columns, ids, times, amounts, and what becomes of bad rows."""

import gzip
import lzma
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from app.imports.errors import ImportFileError
from app.imports.purchases import read_purchases
from app.imports.values import clean_id

BERLIN = ZoneInfo("Europe/Berlin")
HEADER = "order_id,member_id,occurred_at,sku,quantity,unit_price\n"


def _read(tmp_path, text: str, columns=None, skip=(), digits=2, returns=()):
    path = tmp_path / "purchases.csv"
    path.write_text(text, encoding="utf-8")
    return read_purchases(path, columns or {}, BERLIN, digits, skip, return_prefixes=returns)


def test_lines_are_grouped_by_order_wherever_they_stand(tmp_path):
    contents = _read(
        tmp_path,
        HEADER
        + "1,m,2026-01-02 10:00,A,1,1.00\n2,m,2026-01-02 09:00,A,1,1.00\n1,m,2026-01-02 10:00,B,2,1.00\n",
    )
    assert [(order.external_id, [line.sku for line in order.lines]) for order in contents.orders] == [
        ("2", ["A"]),
        ("1", ["A", "B"]),
    ]


@pytest.mark.parametrize(
    ("quantity", "price", "amount"),
    [("3", "0.335", "1.01"), ("1", "0.005", "0.01"), ("0.5", "2.55", "1.28"), ("2", "0", "0.00")],
)
def test_a_line_is_worth_quantity_times_price_rounded_half_up_to_the_cent(tmp_path, quantity, price, amount):
    contents = _read(tmp_path, HEADER + f"1,m,2026-01-02 10:00,A,{quantity},{price}\n")
    assert str(contents.orders[0].lines[0].amount) == amount


def test_where_an_orders_lines_differ_in_time_the_first_counts(tmp_path):
    contents = _read(tmp_path, HEADER + "1,m,2026-07-02 10:00,A,1,1\n1,m,2026-07-02 10:01,B,1,1\n")
    assert contents.orders[0].occurred_at == datetime(2026, 7, 2, 8, 0, tzinfo=UTC)


def test_times_with_an_offset_keep_it_and_others_are_the_programs(tmp_path):
    contents = _read(
        tmp_path,
        HEADER
        + "1,m,2026-07-02T10:00:00Z,A,1,1\n2,m,2026-01-02 10:00:00,A,1,1\n3,m,2026-01-02T10:00+01:00,A,1,1\n",
    )
    times = {order.external_id: order.occurred_at for order in contents.orders}
    assert times["1"] == datetime(2026, 7, 2, 10, 0, tzinfo=UTC)
    assert times["2"] == times["3"] == datetime(2026, 1, 2, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("17850.0", "17850"),
        ("17850", "17850"),
        (" 17850.00 ", "17850"),
        ("A17.0", "A17.0"),
        ("1.5", "1.5"),
        ("", ""),
    ],
)
def test_ids_that_a_spreadsheet_took_for_numbers_are_read_as_they_were(given, read):
    assert clean_id(given) == read


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,,2026-01-02 10:00,A,1,1.00", "names no member"),
        (",m,2026-01-02 10:00,A,1,1.00", "names no order"),
        ("1,m,2026-01-02 10:00,,1,1.00", "names no SKU"),
        ("1,m,yesterday,A,1,1.00", "'yesterday' is not a time"),
        ("1,m,2026-01-02 10:00,A,two,1.00", "'two' is not a number"),
        ("1,m,2026-01-02 10:00,A,NaN,1.00", "'NaN' is not a number"),
        ("1,m,2026-01-02 10:00,A,-1,1.00", "returns are not purchases"),
        ("1,m,2026-01-02 10:00,A,1,-1.00", "is negative"),
        ("1,m,2026-01-02 10:00", "columns"),
        ("1,m,2026-01-02 10:00,A,1e300,1e300", "'1e300' is not a number"),
        ("1,m,2026-01-02 10:00,A,1,1e400", "'1e400' is not a number"),
        ("1,m,2026-01-02 10:00,A,1_0,1.00", "'1_0' is not a number"),
        ("1,m,2026-01-02 10:00,A,٣,1.00", "'٣' is not a number"),
        ("1,m,2026-01-02 10:00,A,1,1e3", "'1e3' is not a number"),
        ("1,m,2026-01-02 10:00,A,1,.5", "'.5' is not a number"),
        ("1,m,2026-01-02 10:00,A,1,", "'' is not a number"),
        ("1,m,2026-01-02 10:00,A,1000000000001,1.00", "is more than 1,000,000,000,000"),
        ("1,m,2026-01-02 10:00,A,1," + "9" * 5000, "is more than 1,000,000,000,000"),
        ("1,m,0001-01-01T00:00:00+14:00,A,1,1.00", "is not a time"),
        ("1,m,9999-12-31T23:59:59-14:00,A,1,1.00", "is not a time"),
        ("1,m,2026-01-02 10:00,A,1,1,50", "The row has 7 columns, and the header has 6."),
    ],
)
def test_a_bad_row_is_turned_away_with_its_reason_and_the_rest_goes_on(tmp_path, row, reason):
    contents = _read(tmp_path, HEADER + row + "\nok,m,2026-01-02 10:00,A,1,1.00\n")
    assert [order.external_id for order in contents.orders] == ["ok"]
    (reject,) = contents.rejects
    assert reject.number == 2
    assert reason in reject.reason


def test_a_bad_row_spoils_its_whole_order(tmp_path):
    contents = _read(
        tmp_path,
        HEADER
        + "1,m,2026-01-02 10:00,A,1,1.00\n1,m,2026-01-02 10:00,B,x,1.00\n1,n,2026-01-02 10:00,C,1,1.00\n",
    )
    assert contents.orders == []
    assert sorted(reject.number for reject in contents.rejects) == [2, 3, 4]


def test_orders_are_left_out_by_how_their_ids_begin(tmp_path):
    contents = _read(
        tmp_path, HEADER + "C1,m,2026-01-02 10:00,A,-1,1.00\n1,m,2026-01-02 10:00,A,1,1.00\n", skip=["C"]
    )
    assert (contents.skipped_orders, contents.skipped_lines, len(contents.orders)) == (1, 1, 1)
    assert contents.rejects == []


def test_returns_are_known_by_their_id_and_read_as_what_came_back(tmp_path):
    rows = (
        "C1,m,2026-01-03 10:00,A,-2,0.335\nC1,m,2026-01-03 10:00,B,-1.50,10\n1,m,2026-01-02 10:00,A,3,1.00\n"
    )
    purchase, came_back = _read(tmp_path, HEADER + rows, returns=["R", "C"]).orders
    assert (purchase.external_id, purchase.is_return) == ("1", False)
    assert (came_back.external_id, came_back.is_return) == ("C1", True)
    assert [(line.sku, str(line.quantity), str(line.amount)) for line in came_back.lines] == [
        ("A", "2", "0.67"),
        ("B", "1.5", "15.00"),
    ]


def test_orders_of_the_same_time_stay_in_the_order_of_the_file(tmp_path):
    rows = "".join(
        f"{name},m,2026-01-02 10:00,A,{sign}1,1\n" for name, sign in (("b", ""), ("C", "-"), ("a", ""))
    )
    orders = _read(tmp_path, HEADER + rows, returns=["C"]).orders
    assert [order.external_id for order in orders] == ["b", "C", "a"]


@pytest.mark.parametrize("amount", ["-3.50", "3.50"])
def test_a_return_of_whole_amounts_may_write_them_with_either_sign(tmp_path, amount):
    header = "order_id,member_id,occurred_at,sku,quantity,amount\n"
    contents = _read(tmp_path, header + f"C1,m,2026-01-02 10:00,A,-2,{amount}\n", returns=["C"])
    assert [(line.quantity, line.amount) for line in contents.orders[0].lines] == [(2, Decimal("3.50"))]


def test_without_quantities_each_line_of_a_return_is_one_piece(tmp_path):
    header = "order_id,member_id,occurred_at,sku,amount\n"
    contents = _read(tmp_path, header + "C1,m,2026-01-02 10:00,A,-3.50\n", returns=["C"])
    assert [(line.quantity, line.amount) for line in contents.orders[0].lines] == [(1, Decimal("3.50"))]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            "C1,m,2026-01-02 10:00,A,2,1.00",
            "The quantity 2 is not less than 0: by its id the order is a return.",
        ),
        (
            "C1,m,2026-01-02 10:00,A,0,1.00",
            "The quantity 0 is not less than 0: by its id the order is a return.",
        ),
        ("C1,m,2026-01-02 10:00,A,-1,-1.00", "The amount -1.00 is negative."),
        ("C1,m,2026-01-02 10:00,A,-1000000000001,1", "is less than -1,000,000,000,000."),
        ("C1,m,2026-01-02 10:00,A,--1,1.00", "'--1' is not a number"),
        ("1,m,2026-01-02 10:00,A,-1,1.00", "The quantity -1 is not more than 0: returns are not purchases."),
    ],
)
def test_a_row_with_the_sign_of_the_other_kind_spoils_its_order(tmp_path, row, reason):
    good = "C2,m,2026-01-02 10:00,A,-1,1.00\n"
    same = row.split(",")[0] + f",m,2026-01-02 10:00,B,{'-' if row[0] == 'C' else ''}1,1.00\n"
    contents = _read(tmp_path, HEADER + row + "\n" + same + good, returns=["C"])
    assert [order.external_id for order in contents.orders] == ["C2"]
    assert [reject.number for reject in contents.rejects] == [2, 3]
    assert reason in contents.rejects[0].reason
    assert "Row 2 of the same order is bad" in contents.rejects[1].reason


def test_what_is_left_out_is_left_out_whether_it_is_a_return_or_not(tmp_path):
    rows = "CX1,m,2026-01-02 10:00,A,1,1.00\nC1,m,2026-01-02 10:00,A,-1,1.00\n"
    contents = _read(tmp_path, HEADER + rows, skip=["CX"], returns=["C"])
    assert (contents.skipped_orders, [order.external_id for order in contents.orders]) == (1, ["C1"])
    assert contents.rejects == []


@pytest.mark.parametrize("opened", [gzip.open, lzma.open])
def test_packed_files_are_known_by_their_content(tmp_path, opened):
    path = tmp_path / "purchases.data"
    with opened(path, "wt", encoding="utf-8-sig") as file:
        file.write(HEADER + "1,m,2026-01-02 10:00,A,1,1.00\n")
    assert len(read_purchases(path, {}, BERLIN, 2).orders) == 1


def test_a_currency_without_cents_has_none(tmp_path):
    contents = _read(tmp_path, HEADER + "1,m,2026-01-02 10:00,A,1,10.5\n", digits=0)
    assert contents.orders[0].lines[0].amount == Decimal(11)


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "empty"),
        ("a,b\n1,2\n", {}, "order_id"),
        (HEADER, {"sku": "Nope"}, "no column 'Nope'"),
        ("order_id,member_id,occurred_at,sku\n", {}, "quantity and unit_price"),
        (HEADER.replace("quantity", "sku"), {}, "more than one column 'sku'"),
        (HEADER + "1,m,2026-01-02 10:00,A,1," + "9" * 200_000 + "\n", {}, "Row 2 cannot be read as CSV"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(tmp_path, text, columns, message):
    with pytest.raises(ImportFileError, match=message):
        _read(tmp_path, text, columns)


def test_a_file_that_is_cut_short_says_so(tmp_path):
    path = tmp_path / "cut.csv.xz"
    path.write_bytes(lzma.compress((HEADER + "1,m,2026-01-02 10:00,A,1,1.00\n" * 5000).encode())[:-40])
    with pytest.raises(ImportFileError, match="cannot be read"):
        read_purchases(path, {}, BERLIN, 2)


def test_times_in_another_form_are_read_as_it_says(tmp_path):
    path = tmp_path / "purchases.csv"
    path.write_text(HEADER + "1,m,02/01/2026 10:00,A,1,1\n2,m,2026-01-02 10:00,A,1,1\n")
    contents = read_purchases(path, {}, BERLIN, 2, time_format="%d/%m/%Y %H:%M")
    assert [order.occurred_at for order in contents.orders] == [datetime(2026, 1, 2, 9, 0, tzinfo=UTC)]
    assert "is not a time such as %d/%m/%Y %H:%M" in contents.rejects[0].reason


def test_a_time_format_that_nothing_can_be_read_by_says_so(tmp_path):
    path = tmp_path / "purchases.csv"
    path.write_text(HEADER)
    for form in ("%d/%d", "%Q", "%"):
        with pytest.raises(ImportFileError, match="by the format"):
            read_purchases(path, {}, BERLIN, 2, time_format=form)
    assert read_purchases(path, {}, BERLIN, 2, time_format="%d %b %Y %I:%M %p %z").orders == []


def test_numbers_may_have_spaces_around_them_and_may_be_as_long_as_they_like(tmp_path):
    contents = _read(tmp_path, HEADER + f"1,m,2026-01-02 10:00,A, 2 ,1.{'3' * 3000}\n")
    assert contents.orders[0].lines[0].amount == Decimal("2.67")


def test_a_row_with_a_bad_byte_is_turned_away_with_its_order_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "purchases.csv"
    header = HEADER.strip() + ",name,note\n"
    path.write_bytes(
        header.encode()
        + b"1,m,2026-01-02 10:00,A,1,1.00,Caf\xe9,\n1,m,2026-01-02 10:00,B,1,1.00,Tea,\n"
        + "2,m,2026-01-02 10:00,A,1,1.00,Café,\n".encode()
        + b"3,m,2026-01-02 10:00,A,1,1.00,Tea,\xff\n"
    )
    contents = read_purchases(path, {}, BERLIN, 2)
    assert [(order.external_id, order.lines[0].name) for order in contents.orders] == [("2", "Café")]
    assert [(reject.number, reject.reason) for reject in contents.rejects if reject.number != 3] == [
        (2, "The row is not UTF-8."),
        (5, "The row is not UTF-8."),
    ]
    assert "Row 2 of the same order" in contents.rejects[1].reason
    assert contents.lines_read == 4


def test_a_file_in_another_encoding_says_so(tmp_path):
    path = tmp_path / "purchases.csv"
    path.write_bytes(HEADER.encode("utf-16"))
    with pytest.raises(ImportFileError, match="not UTF-8"):
        read_purchases(path, {}, BERLIN, 2)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ('"Big\nmug"', "Big mug"),
        ('"Big \r\n\r\n mug\n"', "Big mug"),
        ('"Big\u2028mug"', "Big mug"),
        ('" \n "', None),
        (" Mug ", "Mug"),
        ("", None),
    ],
)
def test_texts_are_read_in_one_line(tmp_path, given, read):
    header = HEADER.strip() + ",name,category,brand\n"
    path = tmp_path / "purchases.csv"
    path.write_bytes((header + f"1,m,2026-01-02 10:00,A,1,1.00,{given},{given},{given}\n").encode())
    (line,) = read_purchases(path, {}, BERLIN, 2).orders[0].lines
    assert (line.name, line.category, line.brand) == (read, read, read)


@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress])
def test_a_packed_file_that_is_damaged_says_so(tmp_path, packed):
    path = tmp_path / "purchases.data"
    body = packed((HEADER + "".join(f"{n},m,2026-01-02 10:00,A,1,1\n" for n in range(50_000))).encode())
    path.write_bytes(body[:5000] + bytes(byte ^ 255 for byte in body[5000:5100]) + body[5100:])
    with pytest.raises(ImportFileError, match="cannot be read"):
        read_purchases(path, {}, BERLIN, 2)
