"""Tiny published sets of drawn shapes, in the layout that their authors ship."""

import io
import json
import pickle
import tarfile

from crossattn.data.sources import Data, load_source
from tests.support.picture_folders import draw

SIZE = (48, 32)


def _save(path, number, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(number, size)[0].save(path)


def _write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _said(number):
    _, colour, shape, _ = draw(number)
    return colour, shape


def _xywh(number):
    x0, y0, x1, y1 = draw(number)[3]
    return [x0, y0, x1 - x0, y1 - y0]


def coco_image(number, name):
    return {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1], "license": 1}


def write_coco(path, train=12, val=6):
    for part, numbers in (("train2017", range(train)), ("val2017", range(100, 100 + val))):
        annotations = []
        for number in numbers:
            _save(path / part / f"{number:012}.jpg", number)
            colour, shape = _said(number)
            for text in (f"A {colour} {shape}.", f"the {shape} is {colour}"):
                annotations.append({"image_id": number, "id": len(annotations), "caption": text})
        images = [coco_image(number, f"{number:012}.jpg") for number in numbers]
        # The captions of a picture do not stand beside one another.
        annotations = annotations[::2] + annotations[1::2]
        value = {"info": {"year": 2017}, "images": images, "licenses": [{"id": 1}]}
        _write(path / f"annotations/captions_{part}.json", value | {"annotations": annotations})
    return path


def write_karpathy(path, train=12, val=3, test=3):
    images = []
    for number in range(train + val + test):
        split = ["val", "test"][number % 2] if number >= train else ["train", "restval"][number % 2]
        name = f"COCO_val2014_{number:012}.jpg"
        _save(path / "val2014" / name, number)
        colour, shape = _said(number)
        # Of some pictures there are more captions than the protocol counts.
        texts = [f"A {colour} {shape}, said {word}." for word in range(1, 7)]
        sentences = [{"tokens": text.lower().split(), "raw": text, "imgid": number, "sentid": 1}
                     for text in texts[: 5 + number % 3 // 2]]  # fmt: skip
        images.append({"filepath": "val2014", "filename": name, "imgid": number, "split": split,
                       "sentids": [], "sentences": sentences, "cocoid": number})  # fmt: skip
    _write(path / "dataset_coco.json", {"images": images, "dataset": "coco"})
    return path


def write_flickr30k(path, train=8, val=4, test=4):
    start = 1000
    for part, count in (("train", train), ("val", val), ("test", test)):
        names = range(start, start + count)
        (path / "Sentences").mkdir(parents=True, exist_ok=True)
        (path / "Annotations").mkdir(exist_ok=True)
        (path / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            _save(path / f"flickr30k-images/{name}.jpg", name)
            colour, shape = _said(name)
            x0, y0, x1, y1 = draw(name)[3]
            (path / f"Sentences/{name}.txt").write_text(
                f"[/EN#{name}/other A {colour} {shape}] is on [/EN#0/notvisual it] .\n"
                f"We see [/EN#{name}/other/people the {shape}] .\n"
            )
            (path / f"Annotations/{name}.xml").write_text(
                f"<annotation><filename>{name}.jpg</filename><size><width>{SIZE[0]}</width>"
                f"<height>{SIZE[1]}</height><depth>3</depth></size><object><name>{name}</name>"
                f"<bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
                f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
                "<object><name>9</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>"
            )
        start += count
    return path


def write_refcoco(path, train=12, val=4, test=4, form="p"):
    refs, images, annotations, number = [], [], [], 0
    for split, count in (("train", train), ("val", val), ("testA", test)):
        for _ in range(count):
            name = f"COCO_train2014_{number:012}.jpg"
            _save(path / "train2014" / name, number)
            colour, shape = _said(number)
            images.append(coco_image(number, name))
            annotations.append({"id": 7 * number, "image_id": number, "bbox": _xywh(number)})
            sentences = [{"sent": f"{colour} {shape}", "tokens": [colour, shape], "sent_id": 0},
                         {"sent": f"the {colour} thing", "sent_id": 1}]  # fmt: skip
            refs.append({"ref_id": number, "ann_id": 7 * number, "image_id": number,
                         "split": split, "sentences": sentences, "sent_ids": [0, 1]})  # fmt: skip
            number += 1
    _write(path / "instances.json", {"images": images, "annotations": annotations})
    if form == "json":
        _write(path / "refs(unc).json", refs)
    else:
        (path / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return path


def write_vqa(path, train=12, val=6):
    for part, numbers in (("train2014", range(train)), ("val2014", range(100, 100 + val))):
        asked, annotations = [], []
        for number in numbers:
            _save(path / part / f"COCO_{part}_{number:012}.jpg", number)
            colour, shape = _said(number)
            other = "two" if colour == "red" else "red."
            for kind, question, said in (
                ("other", f"What color is the {shape}?", [colour] * 8 + [other] * 2),
                ("yes/no", f"Is there a {shape}?", ["yes"] * 10),
            ):
                name = 10 * number + len(asked) % 2
                asked.append({"image_id": number, "question": question, "question_id": name})
                answers = [{"answer": one, "answer_confidence": "yes", "answer_id": place}
                           for place, one in enumerate(said, 1)]  # fmt: skip
                annotations.append({
                    "question_type": "what", "multiple_choice_answer": said[0], "answers": answers,
                    "image_id": number, "answer_type": kind, "question_id": name,
                })  # fmt: skip
        _write(path / f"v2_OpenEnded_mscoco_{part}_questions.json", {"questions": asked[::-1]})
        _write(path / f"v2_mscoco_{part}_annotations.json", {"annotations": annotations})
    return path


def write_gqa(path, train=12, val=6, testdev=4):
    for part, numbers in (
        ("train", range(train)),
        ("val", range(100, 100 + val)),
        ("testdev", range(200, 200 + testdev)),
    ):
        questions, graphs = {}, {}
        for number in numbers:
            _save(path / f"images/{number}.jpg", number)
            colour, shape = _said(number)
            x, y, w, h = _xywh(number)
            thing = {"name": shape, "x": x, "y": y, "w": w, "h": h, "attributes": [colour]}
            graphs[str(number)] = {"width": SIZE[0], "height": SIZE[1], "objects": {"77": thing}}
            questions[f"0{number}"] = {
                "imageId": str(number),
                "question": f"Which color, or hue, is the {shape}?",
                "answer": colour,
                "annotations": {"question": {"6": "77"}, "answer": {"0": "77"}},
                "types": {"structural": "query"},
            }
        _write(path / f"{part}_balanced_questions.json", questions)
        if part != "testdev":
            _write(path / f"{part}_sceneGraphs.json", graphs)
    return path


def write_clevr(path, train=12, val=6):
    for part, numbers in (("train", range(train)), ("val", range(100, 100 + val))):
        questions, scenes = [], []
        for number in numbers:
            name = f"CLEVR_{part}_{number:06}.png"
            _save(path / f"images/{part}/{name}", number, (480, 320))
            colour, _ = _said(number)
            objects = [
                {"color": colour, "shape": "cube", "size": "large", "material": "rubber",
                 "pixel_coords": [100, 80, 10.0]},
                {"color": "gray", "shape": "sphere", "size": "small", "material": "metal",
                 "pixel_coords": [300, 200, 12.0]},
            ]  # fmt: skip
            sides = {"left": [[], [0]], "right": [[1], []], "front": [[], []], "behind": [[], []]}
            scenes.append({"image_filename": name, "objects": objects, "relationships": sides})
            step = lambda function, *inputs, value=None: {
                "function": function,
                "inputs": list(inputs),
                "value_inputs": [value] if value else [],
            }
            find = [step("scene"), step("filter_shape", 0, value="sphere"), step("unique", 1),
                    step("relate", 2, value="left"), step("unique", 3)]  # fmt: skip
            ask = {"image_filename": name, "image_index": number, "split": part}
            question = "What is the color of the thing left of the sphere?"
            questions.append(
                ask | {"question": question, "answer": colour,
                       "program": [*find, step("query_color", 4)]}
            )  # fmt: skip
            questions.append(
                ask | {"question": "How many things are there?", "answer": "2",
                       "program": [step("scene"), step("count", 0)]}
            )  # fmt: skip
        _write(
            path / f"questions/CLEVR_{part}_questions.json", {"info": {}, "questions": questions}
        )
        _write(path / f"scenes/CLEVR_{part}_scenes.json", {"info": {}, "scenes": scenes})
    return path


def write_nlvr2(path, train=12, dev=6, test1=6):
    for part, count in (("train", train), ("dev", dev), ("test1", test1)):
        lines = []
        for number in range(count):
            folder = path / (f"images/train/{number % 3}" if part == "train" else part)
            for side in (0, 1):
                shown = 2 * number + side
                _save(folder / f"{part}-{number // 2}-{number % 2}-img{side}.png", shown)
            label = _said(2 * number)[0] == "red"
            line = {"identifier": f"{part}-{number // 2}-{number % 2}-0", "label": str(label),
                    "sentence": "The left image has a red shape."}  # fmt: skip
            lines.append(line | ({"directory": number % 3} if part == "train" else {}))
        (path / "data").mkdir(parents=True, exist_ok=True)
        (path / f"data/{part}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_winoground(path, count=3):
    lines = []
    for number in range(count):
        for side in (0, 1):
            _save(path / f"images/ex_{number}_img_{side}.png", number + side)
        one, other = _said(number)[0], _said(number + 1)[0]
        lines.append({
            "id": number, "image_0": f"ex_{number}_img_0", "image_1": f"ex_{number}_img_1",
            "caption_0": f"the {one} is on the {other}",
            "caption_1": f"the {other} is on the {one}",
            "tag": "Object", "collapsed_tag": "Object",
        })  # fmt: skip
    (path / "data").mkdir(parents=True, exist_ok=True)
    (path / "data/examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_sugarcrepe(path, count=3):
    for part in ("swap_obj", "add_att"):
        value = {}
        for number in range(count):
            _save(path / f"val2017/{number:012}.jpg", number)
            colour, shape = _said(number)
            value[str(number)] = {"filename": f"{number:012}.jpg", "caption": f"a {colour} {shape}",
                                  "negative_caption": f"a {shape} {colour}"}  # fmt: skip
        _write(path / f"data/{part}.json", value)
    return path


def write_valse(path, count=4):
    value = {}
    for number in range(count):
        _save(path / f"images/visual7w/v7w_{number}.jpg", number)
        colour, shape = _said(number)
        value[f"existence_{number}"] = {
            "dataset": "visual7w", "image_file": f"v7w_{number}.jpg",
            "caption": f"There is a {colour} {shape}.", "foil": f"There is no {colour} {shape}.",
            "mturk": {"foil": 0, "caption": 1 if number == 0 else 3, "other": 0},
        }  # fmt: skip
    _write(path / "data/existence.json", value)
    return path


WRITERS = {
    "coco_captions": write_coco,
    "karpathy": write_karpathy,
    "flickr30k_entities": write_flickr30k,
    "refcoco": write_refcoco,
    "vqa_v2": write_vqa,
    "gqa": write_gqa,
    "clevr": write_clevr,
    "nlvr2": write_nlvr2,
}


def write_webdataset(path, train=12, val=6, empty=()):
    """Two shards to train on and one of validation: captions as texts, questions as objects.

    Pictures of the numbers `empty` have an empty caption.
    """
    path.mkdir(parents=True, exist_ok=True)
    for name, numbers in (
        ("train-000000", range(train // 2)),
        ("train-000001", range(train // 2, train)),
        ("val-000000", range(100, 100 + val)),
    ):
        with tarfile.open(path / f"{name}.tar", "w") as tar:
            for number in numbers:
                colour, shape = _said(number)
                asked = {"question": f"what colour is the {shape}?", "answer": colour}
                for ending, content in (
                    ("jpg", encoded(number)),
                    ("txt", b" " if number in empty else f"a {colour} {shape}".encode()),
                    ("json", json.dumps(asked).encode()),
                    ("cls", b"7"),
                ):
                    member = tarfile.TarInfo(f"{number:06}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return path


def encoded(number):
    """The bytes of a picture file."""
    file = io.BytesIO()
    draw(number, SIZE)[0].save(file, "JPEG")
    return file.getvalue()


def write_hf_dataset(path, train=12, test=6):
    """What `DatasetDict.save_to_disk` of the package datasets leaves, with two record batches."""
    import pyarrow

    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([
        ("image", image), ("id", pyarrow.int64()), ("caption", pyarrow.list_(pyarrow.string())),
        ("question", pyarrow.string()), ("answers", pyarrow.list_(pyarrow.string())),
    ])  # fmt: skip
    for name, numbers in (("train", range(train)), ("test", range(100, 100 + test))):
        rows = []
        for number in numbers:
            colour, shape = _said(number)
            rows.append({
                "image": {"bytes": encoded(number), "path": f"{number}.jpg"}, "id": number,
                "caption": [f"a {colour} {shape}", f"the {shape}"],
                "question": f"what colour is the {shape}?",
                "answers": [colour] * 8 + ["A red.", "none"],
            })  # fmt: skip
        (path / name).mkdir(parents=True)
        file = path / name / "data-00000-of-00001.arrow"
        with pyarrow.ipc.new_stream(str(file), schema) as stream:
            for start in range(0, len(rows), 5):
                part = rows[start : start + 5]
                stream.write(pyarrow.RecordBatch.from_pylist(part, schema=schema))
        _write(path / name / "state.json", {"_data_files": [{"filename": file.name}]})
        _write(path / name / "dataset_info.json", {"features": {}})
    _write(path / "dataset_dict.json", {"splits": ["train", "test"]})
    return path


def load(name, directory, **settings):
    """The set in a folder as training has it, its pictures small."""
    data = Data(name, directory=str(directory), image_size=32, **settings)
    return load_source(data, "patch")


def damage_json(file, change):
    """Changes the value that stands in a file."""
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))
