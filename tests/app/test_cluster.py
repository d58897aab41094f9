"""POST /cluster and `gpu-kmeans cluster`: points in, centroids and labels out."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli import main
from app.errors import BadParameter, BadPoints
from app.options import ClusterOptions
from app.tables import read_table
from gpu_kmeans import elbow, kmeans

POINTS = [[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [9.0, 8.0], [-7.0, 5.0], [-7.0, 6.0]]
CSV = "name,x,y,w\n" + "".join(f"p{i},{x:g},{y:g},{i + 1}\n" for i, (x, y) in enumerate(POINTS))
METRICS = [("euclidean", 2), ("cityblock", 2), ("chebyshev", 2), ("minkowski", 3), ("cosine", 2)]
SHIFTED = (np.array(POINTS) + 20).tolist()


def cluster(client, **request):
    response = client.post("/cluster", **request)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def run():
    def run_command(*arguments, stdin=None):
        return CliRunner().invoke(main, ["cluster", *map(str, arguments)], input=stdin)

    return run_command


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(CSV)
    return path


@pytest.mark.parametrize(("metric", "p"), METRICS)
def test_the_answer_is_that_of_the_library(client, metric, p):
    body = {"points": SHIFTED, "weights": [1, 2, 3, 1, 1, 1], "metric": metric, "p": p, "k": 3}

    answer = cluster(client, json=body)

    weights = np.array(body["weights"], float)
    ours = kmeans(np.array(SHIFTED), 3, weights=weights, metric=metric, p=p)
    assert answer["labels"] == ours.labels.tolist()
    assert answer["centroids"] == ours.centroids.tolist()
    assert answer["wcss"] == ours.wcss == answer["history"][-1]
    assert answer["history"] == list(ours.wcss_history)
    assert (answer["k"], answer["k_reason"], answer["metric"]) == (3, "asked", metric)
    assert sum(answer["counts"]) == 6
    assert answer["input"] == {"points": 6, "dimensions": 2}


def test_members_of_the_body_and_of_the_query_are_the_same_parameters(client):
    in_body = cluster(client, json={"points": POINTS, "k": 2, "metric": "cityblock", "seed": 3})
    in_query = cluster(client, json={"points": POINTS}, params="k=2&metric=cityblock&seed=3")

    for answer in (in_body, in_query):
        answer.pop("timing_ms")
    assert in_body == in_query


def test_who_computed_is_said_truly(client):
    fast, plain = (
        cluster(client, json={"points": SHIFTED, "k": 2, "metric": metric})["engine"]["backend"]
        for metric in ("cosine", "chebyshev")
    )

    assert plain == "reference"
    assert fast in {"cpu", "cuda", "reference"}


def test_k_may_be_the_knee_of_the_curve(client):
    blobs = (np.array([[0, 0], [50, 0], [0, 50]])[np.arange(60) % 3] + np.eye(60, 2)).tolist()

    answer = cluster(client, json={"points": blobs, "k": "elbow", "k_max": 8})

    assert (answer["k"], answer["k_reason"]) == (3, "elbow")


def test_fewer_distinct_points_than_clusters_come_back_with_a_warning(client):
    answer = cluster(client, json={"points": [[1], [1], [5]], "k": 3})

    assert answer["k_reason"] == "distinct points"
    assert answer["wcss"] == 0
    assert answer["warnings"] == ["2 distinct points, for k=3"]


def test_without_a_k_few_points_are_themselves(client):
    assert cluster(client, json={"points": [[1], [2]]})["k"] == 2


@pytest.mark.parametrize(
    ("body", "query", "code", "said"),
    [
        (b"", "", "missing-image", "No bytes"),
        (b"{", "", "bad-points", "json"),
        (b"\x89PNG\r\n\x1a\n", "", "bad-points", "json"),
        (b"[[1, 2]]", "", "bad-points", "object"),
        (b"{}", "", "bad-points", "points"),
        (b'{"points": []}', "", "bad-points", "points"),
        (b'{"points": [[]]}', "", "bad-points", "at least one"),
        (b'{"points": [[1], [1, 2]]}', "", "bad-points", "1 to 2"),
        (b'{"points": [[1], ["2"]]}', "", "bad-points", "points[1][0]"),
        (b'{"points": [[NaN]]}', "", "bad-points", "points[0][0]"),
        (b'{"points": [[1]], "weights": [-1]}', "", "bad-points", "weights[0]"),
        (b'{"points": [[1]], "weights": [0]}', "", "bad-points", "weight is 0"),
        (b'{"points": [[1]], "weights": [1, 2]}', "", "bad-points", "got 2 for 1"),
        (b'{"points": [[0, 0], [1, 2]]}', "k=1&metric=cosine", "bad-points", "row 0"),
        (b'{"points": [[1], [2]]}', "k=3", "bad-parameter", "number of points"),
        (b'{"points": [[1], [2]]}', "k=0", "bad-parameter", "k="),
        (b'{"points": [[1], [2]]}', "k=auto", "bad-parameter", "k="),
        (b'{"points": [[1], [2]]}', "metric=manhattan", "bad-parameter", "cityblock"),
        (b'{"points": [[1], [2]]}', "metric=minkowski&p=0.5", "bad-parameter", "p="),
        (b'{"points": [[1], [2]]}', "metric=minkowski&p=inf", "bad-parameter", "p="),
        (b'{"points": [[1], [9], [4]]}', "k=2&metric=cityblock&p=3", "bad-parameter", "p=3"),
        (b'{"points": [[1], [9], [4]]}', "k=2&metric=cosine&refine=1", "bad-parameter", "refine"),
        (b'{"points": [[1], [2]], "k": 1}', "k=1", "bad-parameter", "given once"),
        (b'{"points": [[1], [2]], "k": [1]}', "", "bad-parameter", "k="),
        (b'{"points": [[1], [2]], "k": null}', "", "bad-parameter", "k="),
        (b'{"points": [[1], [2]], "clusters": 2}', "", "bad-parameter", "clusters"),
        (b'{"points": [[1], [2]]}', "dither=1", "bad-parameter", "dither"),
        (b'{"points": [[1], [2]]}', "seed=1&seed=2", "bad-parameter", "given once"),
    ],
)
def test_what_is_wrong_is_refused_with_its_code(client, body, query, code, said):
    response = client.post(f"/cluster?{query}", content=body)

    assert (response.status_code, response.json()["code"]) == (422, code), response.text
    assert said in response.json()["detail"]


def test_a_table_that_is_too_long_is_refused(client):
    body = b'{"points": [[1]' + b", [1]" * 1_000_000 + b"]}"

    response = client.post("/cluster", content=body)

    assert (response.status_code, response.json()["code"]) == (413, "too-large")


@pytest.mark.parametrize(
    ("accept", "begins"), [("image/svg+xml", b"<?xml"), ("image/png", b"\x89PNG")]
)
def test_points_in_the_plane_are_drawn_where_a_plot_is_preferred(client, accept, begins):
    body = {"points": POINTS, "k": 3}

    response = client.post("/cluster", json=body, headers={"accept": accept})

    assert response.headers["content-type"] == accept
    assert response.content.startswith(begins)


def test_points_out_of_the_plane_cannot_be_drawn(client):
    body = {"points": [[1, 2, 3], [4, 5, 6]], "k": 1}

    response = client.post("/cluster", json=body, headers={"accept": "image/png"})

    assert (response.status_code, response.json()["code"]) == (422, "bad-points")
    assert "in the plane" in response.json()["detail"]


def test_getting_clusters_is_not_allowed(client):
    response = client.get("/cluster")

    assert response.status_code == 405
    assert 'curl --json \'{"points"' in response.json()["detail"]


@pytest.mark.parametrize(("metric", "p"), METRICS)
def test_the_curve_of_points_takes_a_metric_and_says_what_criteria_say(client, metric, p):
    body = {"points": SHIFTED, "metric": metric, "p": p, "target_error": 0.9}

    answer = client.post("/elbow?k_max=5", json=body).json()

    wcss = [point["wcss"] for point in answer["curve"]]
    assert wcss == sorted(wcss, reverse=True)
    assert set(answer["criteria"]) == {"knee", "calinski_harabasz", "silhouette", "target_error"}
    assert answer["criteria"]["knee"]["k"] == answer["knee"]
    assert len(answer["criteria"]["silhouette"]["values"]) == len(wcss) == len(answer["fit_ms"])
    assert all(criterion["meaning"] for criterion in answer["criteria"].values())
    assert answer["warnings"] == []


def test_a_picture_has_no_other_metric(client, photo_png):
    response = client.post("/elbow?metric=cityblock", content=photo_png)

    assert response.json()["code"] == "bad-parameter"
    assert "as points" in response.json()["detail"]


def test_the_command_adds_a_column_of_labels(run, client, table, tmp_path):
    centers = tmp_path / "centers.csv"

    result = run(table, "-k", 3, "--columns", "x,y", "--weights", "w", "--centroids", centers)

    answer = client.post("/cluster", json={"points": POINTS, "weights": [*range(1, 7)], "k": 3})
    lines = result.stdout.splitlines()
    assert result.exit_code == 0, result.output
    assert lines[0] == "name,x,y,w,label"
    assert [int(line.split(",")[-1]) for line in lines[1:]] == answer.json()["labels"]
    assert lines[1].startswith("p0,0,0,1,")
    rows = centers.read_text().splitlines()
    assert rows[0] == "x,y"
    assert [[float(each) for each in row.split(",")] for row in rows[1:]] == (
        answer.json()["centroids"]
    )
    assert "6 points x 2 -> 3 clusters (asked), WCSS" in result.stderr


def test_the_command_answers_as_over_http_where_asked(run, client):
    body = json.dumps({"points": POINTS, "k": 2, "metric": "chebyshev"}).encode()

    printed = json.loads(run("-", "--json", stdin=body).stdout)

    assert printed["labels"] == client.post("/cluster", content=body).json()["labels"]


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "x,y\n1,2\n\n3,4\n", "\ufeffx,y\r\n1,2\r\n3,4\r\n"])
def test_a_header_is_told_from_numbers(run, text):
    result = run("-", "-k", 1, "--metric", "cityblock", stdin=text.encode())

    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == (2 if text[0] == "1" else 3)


def test_a_header_of_numbers_must_be_named_one():
    assert len(read_table(b"1,2\n3,4\n").points.points) == 2
    assert len(read_table(b"1,2\n3,4\n", header="yes").points.points) == 1
    assert len(read_table(b"2020;2021\n3;4\n", header="yes", delimiter=";").points.points) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_stands_between_the_columns_is_found_out_and_written_again(run, delimiter):
    lines = ['"x, 1";"y"', "0;0", '"1";0', "9;9"]
    text = "\n".join(line.replace(";", delimiter) for line in lines)

    result = run("-", "-k", 2, stdin=text.encode())

    assert result.exit_code == 0, result.output
    rows = list(csv.reader(io.StringIO(result.stdout), delimiter=delimiter))
    assert rows[0] == ["x, 1", "y", "label"]
    assert [row[:2] for row in rows[1:]] == [["0", "0"], ["1", "0"], ["9", "9"]]


def test_a_single_column_has_nothing_between():
    assert read_table(b"1\n2\n").points.points.tolist() == [[1], [2]]


def test_columns_go_by_name_or_number_and_in_that_order():
    read = read_table(CSV.encode(), columns="y, 2")

    assert read.columns == ("y", "x")
    np.testing.assert_array_equal(read.points.points, np.array(POINTS)[:, ::-1])


@pytest.mark.parametrize(
    ("text", "keywords", "said"),
    [
        (b"", {}, "no rows"),
        (b"x,y\n", {}, "no rows"),
        (b"x,y\n1,2\n3,four\n", {}, "line 3, column 'y': 'four' is not a number"),
        (b"1,2\n3,\n", {}, "line 2, column 2: there is no number"),
        (b"x;y\n1;2\n3;4,5\n", {}, "line 3, column 'y': '4,5' is not a number; write 1.5, not 1,5"),
        (b"name,x\na,1\n", {}, "line 2, column 'name': 'a' is not a number; --columns says which"),
        (b"x,y\n1,2\n\n3,inf\n", {}, "line 4, column 'y': inf is not finite"),
        (b"x,y\nnan,2\n", {}, "line 2, column 'x': nan is not finite"),
        (b"x,y\n1e200,2\n", {}, "line 2, column 'x': 1e200 is not from -1e.100 to 1e.100"),
        (b"x,y\n1,2\n3\n", {}, "line 3: 1 columns, where line 1 has 2"),
        (b'x,y\n1,"2\n', {}, "line 2: unexpected end of data"),
        (b"x,y\n1,\xff\n", {}, "line 2: the table is no UTF-8"),
        (b"x,w\n1,1\n2,-1\n", {"weights": "w"}, "line 3, column 'w': a weight is not negative"),
    ],
)
def test_a_bad_table_is_refused_by_line_and_column(text, keywords, said):
    with pytest.raises(BadPoints, match=said):
        read_table(text, **keywords)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"columns": "x,z"}, "columns='z' is not allowed: name, x, y, w, or a number from 1 to 4"),
        ({"columns": "0"}, "columns='0'"),
        ({"weights": "mass"}, "weights='mass'"),
        ({"delimiter": "::"}, "delimiter='::'"),
    ],
)
def test_a_column_that_is_not_there_is_refused(keywords, said):
    with pytest.raises(BadParameter, match=said):
        read_table(CSV.encode(), **keywords)


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        (["-", "-k", 3], b"x\n1\nb\n", 1, "line 3, column 'x'"),
        (["-", "-k", 3], b"", 1, "no rows"),
        (["-", "-k", 9], CSV.replace("p", "").encode(), 2, "number of points"),
        (["-", "-k", "many"], CSV.encode(), 2, "k='many'"),
        (["-", "--columns", "z"], CSV.encode(), 2, "columns='z'"),
        (["-", "--columns", "x"], b'{"points": [[1]]}', 2, "for CSV, not JSON"),
        (["-", "--metric", "cosine", "--columns", "x,y", "-k", 2], CSV.encode(), 1, "row 0"),
        (["nowhere.csv"], None, 2, "nowhere.csv"),
    ],
)
def test_the_command_ends_with_two_for_arguments_and_one_for_input(
    run, arguments, stdin, code, said
):
    result = run(*arguments, stdin=stdin)

    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stdout == ""


def test_the_command_has_the_words_of_its_door():
    flags = {option for each in main.commands["cluster"].params for option in each.opts}

    assert {f"--{name.replace('_', '-')}" for name in ClusterOptions.model_fields} <= flags


def test_elbow_takes_a_csv_file_and_its_columns_and_says_what_criteria_pick(table):
    result = CliRunner().invoke(
        main, ["elbow", str(table), "--columns", "x,y", "--weights", "w", "--k-max", "5"]
    )

    answer = elbow(np.array(POINTS), 5, weights=np.arange(1, 7))
    assert result.exit_code == 0, result.output
    for name, criterion in answer.criteria.items():
        assert f"{name}: {criterion.k}, {criterion.meaning}" in result.stdout


def test_columns_asked_for_make_standard_input_csv():
    result = CliRunner().invoke(main, ["elbow", "-", "--columns", "x,y"], input=CSV.encode())

    assert result.exit_code == 0, result.output


def test_plot_takes_the_columns_of_a_csv_file(table, tmp_path):
    drawing = tmp_path / "steps.svg"

    result = CliRunner().invoke(
        main, ["plot", "steps", str(table), "-o", str(drawing), "-k", "2", "--columns", "x,y"]
    )

    assert result.exit_code == 0, result.output
    assert drawing.read_bytes().startswith(b"<?xml")
