"""Whatever comes in, the answer is a problem document in plain words, and the service goes on."""

import json

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import black_png, encoded, noise
from starlette.responses import RedirectResponse

from app.errors import TABLE, ServiceError
from app.main import create_app
from app.observability import Metrics, Observed
from app.settings import Settings

DOORS = ["/compress", "/elbow", "/palette"]
PICTURE = encoded(noise(6, 6))
BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'


def assert_problem(response, status, code):
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, document["code"]) == (status, code)
    assert document["status"] == status
    assert document["type"] == f"urn:gpu-kmeans:{code}"
    assert document["title"]
    assert len(document["detail"]) > 10
    return document


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "missing-image"),
        (b"just some text", 415, "unsupported-format"),
        (bytes(range(256)) * 4, 415, "unsupported-format"),
        (PICTURE[: len(PICTURE) // 2], 422, "corrupt-image"),
        (PICTURE[:20], 422, "corrupt-image"),
        (black_png(9400, 9400), 422, "too-many-pixels"),
        (black_png(20_000, 20_000, rows=1), 422, "too-many-pixels"),
    ],
    ids=["empty", "text", "random", "truncated", "header only", "bomb", "larger bomb"],
)
def test_a_body_that_is_no_picture_is_refused(client, door, body, status, code):
    assert_problem(client.post(door, content=body), status, code)
    form = client.post(door, files={"file": ("photo.png", body, "image/png")})
    assert_problem(form, status, code)


def test_the_pixel_limit_is_named(client):
    response = client.post("/compress", content=black_png(9400, 9400))

    document = assert_problem(response, 422, "too-many-pixels")
    assert document["limit_pixels"] == 50_000_000
    assert "50,000,000" in document["detail"]


@pytest.mark.parametrize(
    ("query", "name", "got"),
    [
        ("k=0", "k", "0"),
        ("k=257", "k", "257"),
        ("k=1.5", "k", "1.5"),
        ("k=many", "k", "many"),
        ("k=", "k", ""),
        ("k=-1", "k", "-1"),
        ("colours=5", "colours", "5"),
        ("reserve=red", "reserve", "red"),
        ("effort=10", "effort", "10"),
        ("skip_if_larger=2", "skip_if_larger", "2"),
        ("format=tiff", "format", "tiff"),
        ("k=3&k=4", "k", "3, 4"),
        ("dither=2", "dither", "2"),
        ("thrift=11", "thrift", "11"),
        ("thrift=1.5&dither=0.5", "thrift", "1.5"),
        ("dither=nan", "dither", "nan"),
        ("dither_method=bayer", "dither_method", "bayer"),
        ("k_max=1", "k_max", "1"),
        ("k_max=257", "k_max", "257"),
        ("min_psnr=-1", "min_psnr", "-1"),
        ("space=lab", "space", "lab"),
        ("curve=perhaps", "curve", "perhaps"),
        ("palette=red", "palette", "red"),
        ("init=magic", "init", "magic"),
        ("n_init=0", "n_init", "0"),
        ("max_iter=0", "max_iter", "0"),
        ("tol=-1", "tol", "-1"),
        ("refine=-1", "refine", "-1"),
        ("seed=-1", "seed", "-1"),
    ],
)
def test_a_bad_parameter_is_named_with_what_was_got_and_what_is_allowed(client, query, name, got):
    response = client.post(f"/compress?{query}", content=PICTURE)

    document = assert_problem(response, 422, "bad-parameter")
    assert (document["parameter"], document["got"]) == (name, got)
    assert document["allowed"]
    assert name in document["detail"]


def test_an_unknown_parameter_learns_the_known_ones(client):
    document = client.post("/elbow?k=5", content=PICTURE).json()

    assert document["parameter"] == "k"
    assert "k_max, metric" in document["allowed"]


def test_a_parameter_in_the_query_and_in_the_form_is_given_twice(client):
    files = {"file": ("x.png", PICTURE)}
    response = client.post("/compress?k=3", files=files, data={"k": "3"})

    assert_problem(response, 422, "bad-parameter")


def test_an_endless_bad_value_is_not_repeated_in_full(client):
    response = client.post("/compress", content=PICTURE, params={"k": "9" * 5000})

    assert len(assert_problem(response, 422, "bad-parameter")["got"]) < 100


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([("file", ("x", b""))], "missing-image"),
        ([("photo", ("x", PICTURE))], "bad-parameter"),
        ([("file", ("x", PICTURE)), ("image", ("y", PICTURE))], "bad-parameter"),
        ([("file", ("x", PICTURE))] * 3, "malformed-form"),
    ],
    ids=["zero bytes", "another name", "two files", "three files"],
)
def test_a_form_without_exactly_one_picture_is_refused(client, files, code):
    assert_problem(client.post("/compress", files=files), 422, code)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (PART + PICTURE, BOUNDARY),
        (PART + PICTURE + b"\r\n--b", BOUNDARY),
        (b"--b\r\n\r\nno disposition\r\n--b--\r\n", BOUNDARY),
        (b"nothing of a form", BOUNDARY),
        (PICTURE, {"content-type": "multipart/form-data"}),
        (PICTURE, {"content-type": "multipart/form-data; boundary=" + "b" * 500}),
    ],
    ids=["cut", "cut in the end", "no name", "no parts", "no boundary", "long boundary"],
)
def test_a_broken_form_is_refused(client, body, headers):
    assert_problem(client.post("/compress", content=body, headers=headers), 422, "malformed-form")


def test_a_parameter_of_the_form_that_never_ends_is_refused(client):
    files = {"file": ("x.png", PICTURE)}
    response = client.post("/compress", files=files, data={"k": "1" * 10_000})

    assert_problem(response, 422, "malformed-form")


@pytest.mark.parametrize(
    "body",
    [
        b'{"points": [[NaN, 1]]}',
        b'{"points": [[Infinity]]}',
        b'{"points": [[1e999]]}',
        b'{"points": []}',
        b'{"points": [[]]}',
        b'{"points": [[1, 2], [3]]}',
        b'{"points": [["1", "2"]]}',
        b'{"points": [[true]]}',
        b'{"points": [[null]]}',
        b'{"points": [1, 2]}',
        b'{"points": "many"}',
        b'{"points": [[1]], "weights": [1, 2]}',
        b'{"points": [[1]], "weights": [-1]}',
        b'{"points": [[1]], "weights": [0]}',
        b'{"dots": [[1]]}',
        b'{"points": [[1]',
        b"{",
        b"[1, 2]",
        b"[" * 100_000,
        b'{"points": [[1' + b"0" * 10_000 + b"]]}",
        b'{"points": [[1e200], [-1e200]]}',
    ],
    ids=lambda body: body[:32].decode(),
)
def test_points_that_are_no_finite_table_are_refused(client, body):
    headers = {"content-type": "application/json"}

    assert_problem(client.post("/elbow", content=body, headers=headers), 422, "bad-points")


def test_a_member_beside_the_points_is_a_parameter(client):
    response = client.post("/elbow", json={"points": [[1]], "colour": 1})

    assert_problem(response, 422, "bad-parameter")


def test_the_place_of_a_bad_coordinate_is_named(client):
    response = client.post("/elbow", content=b'{"points": [[1, 2], [3, NaN]]}')

    assert response.json()["detail"].startswith("points[1][1]: ")


def test_the_range_of_coordinates_is_named(client):
    response = client.post("/elbow", content=b'{"points": [[1, 2], [3, -1e200]]}')

    document = assert_problem(response, 422, "bad-points")
    assert document["detail"] == "points[1][1]: input should be from -1e+100 to 1e+100."


@pytest.mark.parametrize(
    ("members", "name"),
    [
        (b'"k": 1, "k": 2', "k"),
        (rb'"k": 1, "\u006b" : 2', "k"),
        (b'"weights": [1], "weights": [2]', "weights"),
        (b'"points": "none"', "points"),
    ],
)
def test_a_member_that_is_there_twice_is_refused(client, members, name):
    response = client.post("/cluster", content=b'{%s, "points": [[1]]}' % members)

    document = assert_problem(response, 422, "bad-parameter")
    assert (document["parameter"], document["allowed"]) == (name, "given once")


def test_text_beside_the_points_may_look_like_a_member(client):
    body = b'{"points": [[1]], "metric": "k\\":", "k": 1}'

    document = assert_problem(client.post("/cluster", content=body), 422, "bad-parameter")
    assert document["parameter"] == "metric"


def test_points_are_no_picture_for_compress(client):
    response = client.post("/compress", json={"points": [[1]]})

    assert_problem(response, 415, "unsupported-format")


@pytest.fixture
def small_client():
    """A service that takes little, so that tests need not send much."""
    tight = Settings(max_body_bytes=2048, max_pixels=100, max_points_bytes=1024)
    with TestClient(create_app(tight), raise_server_exceptions=False) as client:
        yield client


def in_pieces(body):
    """Make a client send a body in chunks, without saying how long it is."""
    return (body[i : i + 500] for i in range(0, len(body), 500))


@pytest.mark.parametrize("send", [bytes, in_pieces], ids=["declared", "chunked"])
@pytest.mark.parametrize("headers", [{}, BOUNDARY], ids=["raw", "form"])
@pytest.mark.parametrize("door", DOORS)
def test_a_body_that_is_too_long_is_refused(small_client, door, send, headers):
    body = PART + bytes(3000) + b"\r\n--b--\r\n"

    response = small_client.post(door, content=send(body), headers=headers)

    assert assert_problem(response, 413, "too-large")["limit_bytes"] == 2048


def test_twenty_mebibytes_are_the_limit(client):
    longest = 20 * 2**20

    refused = client.post("/compress", content=bytes(longest + 1))
    taken = client.post("/compress", content=bytes(longest))

    assert assert_problem(refused, 413, "too-large")["limit_bytes"] == longest
    assert_problem(taken, 415, "unsupported-format")


@pytest.mark.parametrize("declared", ["9" * 5000, "99999999999999999999999"])
def test_an_absurd_declared_length_is_too_large(client, declared):
    headers = {"content-length": declared}

    assert_problem(client.post("/compress", content=PICTURE, headers=headers), 413, "too-large")


def test_too_many_points_are_refused(small_client):
    body = json.dumps({"points": [[0.5]] * 200})

    response = small_client.post("/elbow", content=body)

    assert assert_problem(response, 413, "too-large")["limit_bytes"] == 1024


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/static/nothing", 404, "not-found"),
        ("GET", "/static/../main.py", 404, "not-found"),
        ("GET", "/compress", 405, "method-not-allowed"),
        ("PUT", "/palette", 405, "method-not-allowed"),
        ("POST", "/healthz", 405, "method-not-allowed"),
    ],
)
def test_a_request_for_nothing_we_have_is_a_problem_too(client, method, path, status, code):
    response = client.request(method, path)

    assert_problem(response, status, code)
    assert status != 405 or response.headers["allow"]


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/results/0", "/docs", "/static/page.js"])
def test_where_head_works_allow_says_so(client, path):
    response = client.post(path)

    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD"


def test_an_address_with_a_slash_too_many_leads_on_whatever_the_scheme_in_front(client):
    response = client.post("/compress/?k=2", content=PICTURE, follow_redirects=False)

    assert (response.status_code, response.headers["location"]) == (307, "/compress?k=2")
    assert client.post("/compress/?k=2", content=PICTURE).status_code == 200


def test_nobody_is_led_to_another_server_by_two_slashes():
    elsewhere = Observed(RedirectResponse("http://here//evil.example/?k=2"), Metrics(dict))

    response = TestClient(elsewhere).get("/", follow_redirects=False)

    assert response.headers["location"] == "/evil.example/?k=2"


def test_a_defect_is_a_problem_that_tells_nothing_of_the_inside():
    async def broken(_job):
        message = "secret inner workings"
        raise RuntimeError(message)

    application = create_app(Settings(), broken)
    with TestClient(application, raise_server_exceptions=False) as client:
        response = client.post("/compress", content=PICTURE)

        assert "secret" not in response.text
        assert_problem(response, 500, "internal-error")
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("error", ServiceError.__subclasses__())
def test_every_error_of_ours_has_its_place_in_the_table(error):
    assert error in TABLE


@given(body=st.binary(max_size=200), door=st.sampled_from(DOORS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_ends_in_a_failure_of_the_server(client, body, door):
    assert client.post(door, content=body).status_code < 500


@given(name=st.text(max_size=10), value=st.text(max_size=10), door=st.sampled_from(DOORS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_parameter_ends_in_a_failure_of_the_server(client, name, value, door):
    response = client.post(door, content=PICTURE, params={name: value})

    assert response.status_code in {200, 422}
