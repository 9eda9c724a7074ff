"""Published sets with damaged files, or without some: what is said of them."""

import pickle

import pytest

from crossattn.data.errors import DataError
from crossattn.data.published.refcoco import read_plain_pickle
from tests.support import published_sets as made
from tests.support.picture_folders import draw


class Harm:
    def __reduce__(self):
        return (eval, ("1 / 0",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    for harm in (pickle.dumps(Harm()), pickle.dumps([Harm()], protocol=0)):
        with pytest.raises(ValueError, match=r"names .*eval, which is not looked up"):
            read_plain_pickle(harm)
    directory = made.write_refcoco(tmp_path / "harm")
    (directory / "refs(unc).p").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p is no pickle of plain data"):
        made.load("refcoco", directory)


@pytest.mark.parametrize(
    ("name", "file", "change", "why"),
    [
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["annotations"][3].pop("caption"),
         "captions_train2017.json, entry 4: has no caption"),
        *(
            ("coco_captions", "annotations/captions_train2017.json",
             lambda v, said=said: v["annotations"][3].update(caption=said),
             f"entry 4: has caption {said}, expected a text")
            for said in (None, 5, True, ["a cat"])
        ),
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["annotations"].__setitem__(3, 5), "entry 4: is 5, expected an object"),
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["images"][4].update(id=1),
         "captions_train2017.json: entries 2 and 5 of images have the same name or id"),
        ("vqa_v2", "v2_OpenEnded_mscoco_train2014_questions.json",
         lambda v: v["questions"][1].update(question=None), "has question None, expected a text"),
        ("vqa_v2", "v2_mscoco_train2014_annotations.json",
         lambda v: v["annotations"][1].update(answers=[]), "entry 2: has no answers"),
        ("vqa_v2", "v2_mscoco_train2014_annotations.json",
         lambda v: v["annotations"][1].update(question_id=5),
         "entry 2: has question_id 5, which the file of questions has not"),
        ("gqa", "train_balanced_questions.json", lambda v: v["02"].update(answer=""),
         "entry 02: has an empty answer"),
        ("gqa", "train_sceneGraphs.json", lambda v: v["3"].update(width=0), "entry 03: has a pict"),
        ("clevr", "questions/CLEVR_train_questions.json",
         lambda v: v["questions"][2].update(answer=None), "entry 3: has answer None, expected"),
        ("clevr", "scenes/CLEVR_train_scenes.json",
         lambda v: v["scenes"][0]["objects"][0].update(pixel_coords=None),
         "entry 1: is not as published: TypeError"),
        ("refcoco", "instances.json", lambda v: v["annotations"][2].update(image_id=0),
         "entry 3: is about image 2, its box about image 0"),
        ("refcoco", "instances.json", lambda v: v["annotations"][2].update(bbox=[49, 0, 1, 5]),
         "refs(unc).p, entry 3: has a box"),
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["annotations"][5].update(image_id=77),
         "entry 6: has image_id 77, which the list of images has not"),
        ("vqa_v2", "v2_OpenEnded_mscoco_train2014_questions.json",
         lambda v: v["questions"][23].update(question="  "), "entry 1: has a text of 0 words"),
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["images"][1].update(file_name="../x.jpg"), "leads out of the folder"),
        ("vqa_v2", "v2_mscoco_train2014_annotations.json",
         lambda v: v["annotations"][1].update(image_id=50), "entry 2: there is no picture COCO_"),
        ("gqa", "train_sceneGraphs.json", lambda v: v["3"]["objects"]["77"].update(x=40),
         "entry 03: has a box"),
        ("gqa", "train_sceneGraphs.json", lambda v: v["3"].pop("objects"),
         "train_sceneGraphs.json, entry 3: has no objects"),
        ("clevr", "questions/CLEVR_train_questions.json",
         lambda v: v["questions"][2]["program"][1]["value_inputs"].__setitem__(0, "cone"),
         "entry 3: has a program that finds 0 objects"),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_named(tmp_path, name, file, change, why):
    directory = made.WRITERS[name](tmp_path / name)
    made.damage_json(directory / file, change)
    with pytest.raises(DataError) as error:
        made.load(name, directory)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cut", "why"),
    [
        (lambda text: text[:-30], "entry 24 of annotations: is no JSON"),
        (lambda text: text.replace('{"id": 5,', '{"id": 5', 1), "entry 6 of images"),
        (lambda text: text + "]", "goes on after its end"),
        (lambda text: "", "the beginning: expected {"),
        (lambda text: text.replace("annotations", "annotation"), "has no list 'annotations'"),
    ],
)
def test_damaged_json_is_named(tmp_path, cut, why):
    directory = made.write_coco(tmp_path)
    file = directory / "annotations/captions_train2017.json"
    file.write_text(cut(file.read_text()))
    with pytest.raises(DataError, match=f"captions_train2017.json.*{why.replace('{', '.')}"):
        made.load("coco_captions", directory)


def test_a_damaged_picture_is_named_when_it_is_read(tmp_path):
    directory = made.write_coco(tmp_path)
    picture = directory / "val2017/000000000101.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(DataError, match=r"000000000101\.jpg \(captions_val2017\.json, entry 2\)"):
        made.load("coco_captions", directory)
    picture = made.write_gqa(tmp_path / "gqa") / "images/101.jpg"
    draw(3, (40, 32))[0].save(picture)
    with pytest.raises(DataError, match=r"101\.jpg has 40 x 32 pixels, .*entry 0101 says 48 x 32"):
        made.load("gqa", tmp_path / "gqa")


def test_a_picture_in_two_parts_is_refused(tmp_path):
    directory = made.write_refcoco(tmp_path, form="json")
    made.damage_json(
        directory / "refs(unc).json", lambda refs: refs[14].update(image_id=0, ann_id=0)
    )
    with pytest.raises(DataError, match="1 pictures are both in train and in validation"):
        made.load("refcoco", directory)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("coco_captions", "captions_train2017.json or annotations/captions_train2014.json: expect"),
        ("refcoco", r"has no refs\(unc\)\.p or refs\(unc\)\.json: expected refs"),
        ("flickr30k_entities", "has no train.txt: expected Sentences"),
        ("nlvr2", "has no data/train.json"),
    ],
)
def test_what_a_folder_lacks_is_said(tmp_path, name, why):
    with pytest.raises(DataError, match=why):
        made.load(name, tmp_path)
    with pytest.raises(DataError, match=r"name it with --data\.directory DIR"):
        made.load(name, "")
    with pytest.raises(DataError, match="there is no folder"):
        made.load(name, tmp_path / "nowhere")
