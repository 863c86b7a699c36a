"""The layouts of public data sets, with the mappings that ship."""

from datetime import date

import pytest

from tasks.mapping import load_mapping
from tests.tasks.ingest.conftest import NewShop

LIKED = [("1", "31", "view", 2.5), ("7", "1029", "favourite", 4.0)]
NIGHT = date(2009, 12, 14)


@pytest.mark.parametrize(
    ("name", "files", "titles"),
    [
        (
            "movielens_100k",
            {
                "ml-100k/u.data": b"7\t1029\t4\t1260759179\n1\t31\t2.5\t1260759144\n",
                "ml-100k/u.item": (
                    "31|Caf\xe9 (1995)|01-Jan-1995||http://x|" + "|".join("0" * 19) + "\n"
                ).encode("latin-1"),
                "ml-100k/u.user": b"7|24|M|technician|85711\n1|53|F|other|94043\n",
            },
            [("31", "Café (1995)", None)],
        ),
        (
            "movielens_1m",
            {
                "ml-1m/ratings.dat": b"7::1029::4::1260759179\n1::31::2.5::1260759144\n",
                "ml-1m/movies.dat": "31::Caf\xe9: \"A\" (1995)::Comedy|Drama\n".encode("latin-1"),
            },
            [("31", 'Café: "A" (1995)', "Comedy|Drama")],
        ),
        (
            "movielens_latest",
            {
                "ml-32m/ratings.csv": b"userId,movieId,rating,timestamp\r\n"
                b"7,1029,4.0,1260759179\r\n1,31,2.5,1260759144\r\n",
                "ml-32m/movies.csv": (
                    'movieId,title,genres\r\n31,"Café, ""A"" (1995)",Drama\r\n'.encode()
                ),
            },
            [("31", 'Café, "A" (1995)', "Drama")],
        ),
    ],
)  # fmt: skip
def test_layouts_of_movielens(
    new_shop: NewShop, name: str, files: dict[str, bytes], titles: list[tuple[str, ...]]
) -> None:
    tiny = new_shop(mapping=load_mapping(name))
    for path, content in files.items():
        tiny.land(path, content)
    assert tiny.ingest() == NIGHT
    assert tiny.events("user_id, item_id, behaviour, value") == LIKED
    assert tiny.query("SELECT item_id, title, category FROM clean.items") == titles
    assert tiny.misfits() == []
    users = tiny.query("SELECT user_id, age_band, ds FROM clean.users ORDER BY ALL")
    bands = {"1": "50 and over", "7": "under 25"} if name == "movielens_100k" else {}
    assert users == [(user, bands.get(user), NIGHT) for user in ("1", "7")]


def test_layout_of_retailrocket(new_shop: NewShop) -> None:
    tiny = new_shop(mapping=load_mapping("retailrocket"))
    tiny.land(
        "retailrocket/events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n"
        "1433224214164,992329,addtocart,248676,\n"
        "1433221999827,111016,transaction,318965,13\n"
        "1433221955914,483717,share,253185,\n",
    )
    assert tiny.ingest() == date(2015, 6, 2)
    assert tiny.events("user_id, item_id, behaviour, occurred_at::VARCHAR") == [
        ("111016", "318965", "purchase", "2015-06-02 05:13:19.827+00"),
        ("257597", "355908", "view", "2015-06-02 05:02:12.117+00"),
        ("992329", "248676", "cart", "2015-06-02 05:50:14.164+00"),
    ]
    assert [row[1:] for row in tiny.misfits()] == [(5, "unknown behaviour: event")]


def test_layout_of_taobao(new_shop: NewShop) -> None:
    tiny = new_shop(mapping=load_mapping("taobao"))
    tiny.land(
        "UserBehavior.csv",
        "1,2268318,2520377,pv,1511544070\n"
        "1,2333346,2520771,buy,1511561733\n"
        "1,2268318,2520377,pv,1511544070\n"
        "100,598929,2429887,fav,-2134949234\n"
        "100,1603476,2951233,cart,1511579908\n",
    )
    assert tiny.ingest() == date(2017, 11, 25)
    assert tiny.events("user_id, item_id, behaviour, ds::VARCHAR") == [
        ("1", "2268318", "view", "2017-11-24"),
        ("1", "2333346", "purchase", "2017-11-24"),
        ("100", "1603476", "cart", "2017-11-25"),
    ]
    assert tiny.counts()["UserBehavior.csv"] == ("ingested", 5, 3, 1, 1)
