"""Every reader on a miniature copy in its set's own layout: values by hand, mistakes in one sentence."""

import json

import cv2
import numpy as np
import pytest

from mt_perception.errors import EvaluationError
from mt_training.data.readers import registry
from mt_training.data.readers.ade20k import Ade20k
from mt_training.data.readers.camvid import CamVid, segnet_split
from mt_training.data.readers.cityscapes import Cityscapes
from mt_training.data.readers.coco_panoptic import CocoPanoptic
from mt_training.data.readers.coco_stuff import CocoStuff
from mt_training.data.readers.kitti_depth import KittiDepth
from mt_training.data.readers.labelled_folder import LabelledFolder
from mt_training.data.readers.mapillary import Mapillary

H, W = 6, 8


def save(path, array):
    """Write an image; three channels are RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(array)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    return path


def picture(path, red=10):
    """Write a plain RGB image whose red channel tells it from others."""
    return save(path, np.full((H, W, 3), (red, 20, 30), np.uint8))


def plain(value, dtype=np.uint8):
    """Return a label image of one value."""
    return np.full((H, W), value, dtype)


def ramp(dtype=np.uint8):
    """Return the values 0, 1, 2, … row by row."""
    return np.arange(H * W, dtype=dtype).reshape(H, W)


# Cityscapes

FRAME = 'aachen/aachen_000000_000019'
CAMERA = {
    'extrinsic': {'baseline': 0.2, 'pitch': 0.03, 'roll': 0.0, 'x': 1.7, 'y': 0.1, 'yaw': 0.0, 'z': 1.2},
    'intrinsic': {'fx': 2000.0, 'fy': 1000.0, 'u0': 1023.5, 'v0': 511.5},
}


@pytest.fixture
def cityscapes(tmp_path):
    """Write one image of Cityscapes with labelIds 0–47 clipped to 33, disparity and camera."""
    picture(tmp_path / f'leftImg8bit/train/{FRAME}_leftImg8bit.png')
    save(tmp_path / f'gtFine/train/{FRAME}_gtFine_labelIds.png', np.minimum(ramp(), 33))
    save(tmp_path / f'gtFine/train/{FRAME}_gtFine_instanceIds.png', ramp(np.uint16))
    disparity = plain(1 + 256 * 10, np.uint16)
    disparity[0, 0], disparity[0, 1] = 0, 1
    save(tmp_path / f'disparity/train/{FRAME}_disparity.png', disparity)
    path = tmp_path / f'camera/train/{FRAME}_camera.json'
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(CAMERA))
    return tmp_path


def test_cityscapes_label_ids_become_train_ids(cityscapes):
    """Road 7 → 0, sky 23 → 10, bicycle 33 → 18; void ids, bus 28 → 15 and caravan 29 → ignored."""
    data = Cityscapes(cityscapes, 'train')
    assert len(data) == 1 and data.name_of(0) == FRAME and data.provides == ('segmentation', 'depth')
    labels = data[0].labels.ravel()
    assert [labels[i] for i in (0, 4, 7, 8, 11, 17, 23, 28, 29, 31, 33)] == [
        255, 255, 0, 1, 2, 5, 10, 15, 255, 16, 18,
    ]  # fmt: skip
    assert data.class_names[10] == 'sky' and data.class_names[18] == 'bicycle' and len(data.class_names) == 19
    assert data[0].image[0, 0].tolist() == [10, 20, 30] and data[0].group == 'aachen'


def test_cityscapes_disparity_is_metric_depth(cityscapes):
    """Z = f b / d with the full-size focal length: 2000 · 0.2 / 10 = 40 m; 0 and a disparity of 0 unknown."""
    sample = Cityscapes(cityscapes, 'train')[0]
    assert sample.depth[3, 3] == pytest.approx(40.0)
    assert np.isnan(sample.depth[0, :2]).all()
    assert sample.camera.width == W and sample.camera.fx == pytest.approx(2000 * W / 2048)


def test_cityscapes_crestereo_depth(cityscapes):
    """The CREStereo folder goes before disparity: 8-bit whole metres, 16-bit 1/256 m, npy metres."""
    path = cityscapes / f'crestereo_depth/train/{FRAME}_crestereo_depth.png'
    values = plain(12)
    values[0, :2] = 0, 255
    save(path, values)
    depth = Cityscapes(cityscapes, 'train')[0].depth
    assert depth[2, 2] == 12 and np.isnan(depth[0, :2]).all()
    save(path, plain(256 * 3 + 128, np.uint16))
    assert Cityscapes(cityscapes, 'train')[0].depth[0, 0] == 3.5
    assert Cityscapes(cityscapes, 'train', depth_units=1000)[0].depth[0, 0] == pytest.approx(0.896)
    path.unlink()
    np.save(path.with_suffix('.npy'), np.where(ramp() == 0, np.inf, 7.25))
    depth = Cityscapes(cityscapes, 'train', depth='crestereo')[0].depth
    assert np.isnan(depth[0, 0]) and depth[1, 1] == 7.25
    assert Cityscapes(cityscapes, 'train', depth='disparity')[0].depth[1, 1] == pytest.approx(40)
    assert Cityscapes(cityscapes, 'train', depth='none')[0].depth is None


def test_cityscapes_train_ids_and_mistakes(cityscapes, tmp_path):
    """Ready-made train ids are read; a missing label, split or folder is named with what belongs there."""
    label = cityscapes / f'gtFine/train/{FRAME}_gtFine_labelIds.png'
    label.rename(str(label).replace('labelIds', 'labelTrainIds'))
    save(tmp_path / f'gtFine/train/{FRAME}_gtFine_labelTrainIds.png', plain(18))
    assert (Cityscapes(cityscapes)[0].labels == 18).all()
    picture(cityscapes / 'leftImg8bit/train/bremen/bremen_000000_000019_leftImg8bit.png')
    with pytest.raises(EvaluationError, match='bremen.*has no label: 1 of the 2'):
        Cityscapes(cityscapes)
    with pytest.raises(EvaluationError, match='no folder leftImg8bit/val; expected there: leftImg8bit/SPLIT'):
        Cityscapes(cityscapes, 'val')
    with pytest.raises(EvaluationError, match="no split 'dev'; it has train, val"):
        Cityscapes(cityscapes, 'dev')
    with pytest.raises(EvaluationError, match='missing; expected there: leftImg8bit'):
        Cityscapes(cityscapes / 'nowhere')


def test_cityscapes_disparity_needs_the_cameras(cityscapes):
    (cityscapes / f'camera/train/{FRAME}_camera.json').unlink()
    with pytest.raises(EvaluationError, match='camera.json'):
        Cityscapes(cityscapes)
    assert Cityscapes(cityscapes, depth='none')[0].camera is None


# CamVid


def test_camvid_original_layout(tmp_path):
    """Colours of the 32 classes become the 11 of SegNet, or stay 32; the splits are SegNet's."""
    for name in ('0016E5_07959', '0016E5_08190', '0001TP_008550', 'Seq05VD_f00000'):
        picture(tmp_path / f'701_StillsRaw_full/{name}.png')
        colors = np.zeros((H, W, 3), np.uint8)
        colors[0, :4] = (
            (64, 128, 192),
            (128, 0, 192),
            (64, 192, 0),
            (1, 2, 3),
        )  # SUV, lane marking, wall, none
        save(tmp_path / f'LabeledApproved_full/{name}_L.png', colors)
    names = {split: [s.name for s in CamVid(tmp_path, split)] for split in ('train', 'val', 'test')}
    assert names == {
        'train': ['0016E5_08190'],
        'val': ['0016E5_07959'],
        'test': ['0001TP_008550', 'Seq05VD_f00000'],
    }
    data = CamVid(tmp_path, 'val')
    assert [data.class_names[i] for i in data[0].labels[0, :3]] == ['car', 'road', 'building']
    assert (data[0].labels[1:] == 255).all() and data[0].labels[0, 3] == 255
    fine = CamVid(tmp_path, 'all', classes=32)
    assert len(fine) == 4 and len(fine.class_names) == 31  # Void is no class
    assert [fine.class_names[i] for i in fine[0].labels[0, :3]] == ['SUVPickupTruck', 'LaneMkgsDriv', 'Wall']
    save(tmp_path / 'LabeledApproved_full/0016E5_07959_L.png', np.full((H, W, 3), (9, 9, 9), np.uint8))
    with pytest.raises(EvaluationError, match='100% of its pixels'):
        CamVid(tmp_path, 'val')[0]


def test_camvid_colors_divided_into_splits(tmp_path):
    picture(tmp_path / 'val/a.png')
    save(tmp_path / 'val_labels/a_L.png', np.full((H, W, 3), (0, 0, 192), np.uint8))
    data = CamVid(tmp_path, 'val')
    assert data.class_names[data[0].labels[0, 0]] == 'pavement'
    with pytest.raises(EvaluationError, match='has no split .train. with images and labels; it has val'):
        CamVid(tmp_path, 'train')


def test_segnet_split_is_that_of_the_development_data(shared):
    """The rule for the original's frames gives the two splits whose files are known."""
    for split in ('train', 'val'):
        names = [p.stem for p in (shared / 'data/camvid' / split / 'images').iterdir()]
        assert names and {segnet_split(name) for name in names} == {split}


# COCO


def coco_map():
    """Return a pixel map with person 0, stop sign 12, banner 91, wood 181, unlabelled 255."""
    values = plain(255)
    values[0, :4] = 0, 12, 91, 181
    return values


@pytest.mark.parametrize(
    'images, maps',
    [('train2017', 'stuffthingmaps/train2017'), ('images/train2017', 'annotations/train2017')],
)
def test_coco_stuff(tmp_path, images, maps):
    """Values are label ids less one; the eleven unused ones leave no gap in the class ids."""
    picture(tmp_path / images / '000000000009.jpg')
    save(tmp_path / maps / '000000000009.png', coco_map())
    data = CocoStuff(tmp_path, 'train')
    assert len(data.class_names) == 171 == len(set(data.class_names))
    labels = data[0].labels[0]
    assert [data.class_names[i] for i in labels[:4]] == ['person', 'stop sign', 'banner', 'wood']
    assert labels[:5].tolist() == [0, 11, 80, 170, 255]
    save(tmp_path / maps / '000000000009.png', plain(182))
    with pytest.raises(EvaluationError, match='value 182'):
        data[0]
    with pytest.raises(EvaluationError, match='stuffthingmaps/val2017 or'):
        CocoStuff(tmp_path, 'val')


@pytest.fixture
def coco_panoptic(tmp_path):
    """Write two segments of person (one a crowd) and grass, ids beyond 8 bits."""
    picture(tmp_path / 'val2017/000000000139.jpg')
    ids = {'person': 3226956, 'crowd': 300, 'grass': 7}
    colors = np.zeros((H, W, 3), np.uint8)
    for row, value in enumerate(ids.values()):
        colors[row] = value % 256, value // 256 % 256, value // 65536
    save(tmp_path / 'annotations/panoptic_val2017/000000000139.png', colors)
    content = {
        'images': [{'id': 139, 'width': W, 'height': H, 'file_name': '000000000139.jpg'}],
        'categories': [
            {
                'id': 193,
                'name': 'grass-merged',
                'isthing': 0,
                'color': [152, 251, 152],
                'supercategory': 'plant',
            },
            {'id': 1, 'name': 'person', 'isthing': 1, 'color': [220, 20, 60], 'supercategory': 'person'},
        ],
        'annotations': [
            {
                'image_id': 139,
                'file_name': '000000000139.png',
                'segments_info': [
                    {'id': ids['person'], 'category_id': 1, 'iscrowd': 0, 'bbox': [0, 0, W, 1], 'area': W},
                    {'id': ids['crowd'], 'category_id': 1, 'iscrowd': 1, 'bbox': [0, 1, W, 1], 'area': W},
                    {'id': ids['grass'], 'category_id': 193, 'iscrowd': 0, 'bbox': [0, 2, W, 1], 'area': W},
                ],
            }
        ],
    }
    path = tmp_path / 'annotations/panoptic_val2017.json'
    path.write_text(json.dumps(content))
    return tmp_path, path, content


def test_coco_panoptic(coco_panoptic):
    """The colour is the segment id; classes are the categories by id; pixels of no segment are ignored."""
    data = CocoPanoptic(coco_panoptic[0], 'val')
    assert data.class_names == ('person', 'grass-merged') and data.class_colors[1] == (152, 251, 152)
    sample = data[0]
    assert sample.name == '000000000139' and sample.segment_ids[0, 0] == 3226956
    assert sample.labels[:4, 0].tolist() == [0, 0, 1, 255]
    assert [(s.class_id, s.is_thing, s.is_crowd) for s in sample.segments] == [
        (0, True, False),
        (0, True, True),
        (1, False, False),
    ]


def test_coco_panoptic_mistakes(coco_panoptic):
    """A segment the JSON does not list, a category it does not have, a file that is not this format."""
    root, path, content = coco_panoptic
    removed = content['annotations'][0]['segments_info'].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match='segment 7, which its segments_info does not list'):
        CocoPanoptic(root, 'val')[0]
    content['annotations'][0]['segments_info'].append({**removed, 'category_id': 5})
    path.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match='panoptic format'):
        CocoPanoptic(root, 'val')
    path.write_text('[1, 2')
    with pytest.raises(EvaluationError, match='panoptic_val2017.json. cannot be read'):
        CocoPanoptic(root, 'val')
    with pytest.raises(EvaluationError, match='panoptic_train2017.json'):
        CocoPanoptic(root, 'train')


# Mapillary Vistas

VISTAS = [
    ('construction--flat--road', 'Road', [128, 64, 128], False, True),
    ('object--vehicle--car', 'Car', [0, 0, 142], True, True),
    ('nature--sky', 'Sky', [70, 130, 180], False, True),
    ('void--unlabeled', 'Unlabeled', [0, 0, 0], False, False),
]


def write_vistas(root, version):
    """Write one training image in the layout of a version; labels are palette PNG as in the set."""
    from PIL import Image

    keys = ('name', 'readable', 'color', 'instances', 'evaluate')
    config = {
        'labels': [dict(zip(keys, values)) for values in VISTAS],
        'version': version,
        'mapping': 'public',
    }
    (root / ('config.json' if version == 'v1.2' else f'config_{version}.json')).write_text(json.dumps(config))
    picture(root / 'training/images/abc.jpg')
    classes = plain(0)
    classes[1], classes[2], classes[3] = 1, 2, 3
    numbers = plain(0)
    numbers[1, 4:] = 1  # two cars
    base = root / 'training' / ('' if version == 'v1.2' else version)
    save(base / 'instances/abc.png', classes.astype(np.uint16) * 256 + numbers)
    image = Image.fromarray(classes, 'P')
    image.putpalette([v for _, _, color, _, _ in VISTAS for v in color] + [0] * (768 - 12))
    (base / 'labels').mkdir(parents=True)
    image.save(base / 'labels/abc.png')
    return root


@pytest.mark.parametrize('version', ['v1.2', 'v2.0'])
def test_mapillary(tmp_path, version):
    """Palette indices are classes, those not evaluated are ignored; instances tell two cars apart."""
    data = Mapillary(write_vistas(tmp_path, version), 'train', panoptic=True)
    assert data.version == version and data.class_names[1] == 'object--vehicle--car'
    sample = data[0]
    assert sample.labels[:5, 0].tolist() == [0, 1, 2, 255, 0]
    assert sample.segment_ids[1, 0] == 2 * 256 and sample.segment_ids[1, 7] == 2 * 256 + 1
    assert sample.segment_ids[3, 0] == 0
    assert sorted((s.class_id, s.is_thing) for s in sample.segments) == [
        (0, False),
        (1, True),
        (1, True),
        (2, False),
    ]


def test_mapillary_mistakes(tmp_path):
    """Labels of a version with more classes, a folder without configuration, a version that is not there."""
    write_vistas(tmp_path, 'v1.2')
    with pytest.raises(EvaluationError, match='config_v2.0.json; expected there'):
        Mapillary(tmp_path, version='v2.0')
    save(tmp_path / 'training/labels/abc.png', plain(9))
    with pytest.raises(EvaluationError, match="class 9, but 'config.json' lists 4"):
        Mapillary(tmp_path)[0]
    (tmp_path / 'config.json').write_text('{"labels": [{"name": "road"}]}')
    with pytest.raises(EvaluationError, match='needs labels with name, color'):
        Mapillary(tmp_path)


# ADE20K, own folders


def test_ade20k(tmp_path):
    """Value 0 is other, 1 wall … 150 flag; the archive's folder or its parent is the root."""
    base = tmp_path / 'ADEChallengeData2016'
    picture(base / 'images/training/ADE_train_00000001.jpg')
    values = plain(0)
    values[0, :3] = 1, 21, 150
    save(base / 'annotations/training/ADE_train_00000001.png', values)
    for root in (base, tmp_path):
        data = Ade20k(root, 'train')
        assert [data.class_names[i] for i in data[0].labels[0, :3]] == ['wall', 'car', 'flag']
        assert data[0].labels[0, 3] == 255 and len(set(data.class_names)) == 150
    save(base / 'annotations/training/ADE_train_00000001.png', plain(151))
    with pytest.raises(EvaluationError, match='value 151'):
        data[0]
    with pytest.raises(EvaluationError, match='images/validation; expected there'):
        Ade20k(tmp_path, 'val')


def test_labelled_folder(tmp_path):
    """Folders below are kept in the names; a value without a class name is named."""
    picture(tmp_path / 'train/images/day/a.jpg')
    save(tmp_path / 'train/labels/day/a.png', plain(1))
    with pytest.raises(EvaluationError, match='classes.yaml'):
        LabelledFolder(tmp_path)
    (tmp_path / 'classes.yaml').write_text('[floor, wall]')
    data = LabelledFolder(tmp_path)
    assert data.name_of(0) == 'day/a' and (data[0].labels == 1).all()
    save(tmp_path / 'train/labels/day/a.png', plain(7))
    with pytest.raises(EvaluationError, match='value 7'):
        data[0]
    assert (LabelledFolder(tmp_path, unlabelled=[7])[0].labels == 255).all()


# KITTI depth

DRIVE = '2011_09_26_drive_0001_sync'


@pytest.mark.parametrize('raw', ['', 'raw/', 'elsewhere'])
def test_kitti_depth(tmp_path, raw):
    """Depth is value / 256, 0 unknown; raw images by date and drive; the camera from calib_cam_to_cam.txt."""
    truth = tmp_path / f'kitti/train/{DRIVE}/proj_depth/groundtruth/image_02/0000000005.png'
    save(truth, np.where(ramp() == 0, 0, 256 * 10 + 64).astype(np.uint16))
    base = tmp_path / ('raw_data' if raw == 'elsewhere' else f'kitti/{raw}') / '2011_09_26'
    for number in (4, 5):  # raw has frames without depth
        picture(base / f'{DRIVE}/image_02/data/{number:010d}.png', number)
    row = '7.2e+02 0 6.0e+02 4.5e+01 0 7.1e+02 1.7e+02 2.1e-01 0 0 1 2.7e-03'
    (base / 'calib_cam_to_cam.txt').write_text(f'calib_time: 09-Jan-2012\nP_rect_02: {row}\n')
    data = KittiDepth(tmp_path / 'kitti', 'train', raw=tmp_path / 'raw_data' if raw == 'elsewhere' else None)
    assert len(data) == 1 and data.name_of(0) == f'{DRIVE}/image_02/0000000005'
    sample = data[0]
    assert sample.image[0, 0, 0] == 5 and sample.depth[1, 1] == 10.25 and np.isnan(sample.depth[0, 0])
    assert (sample.camera.fx, sample.camera.fy, sample.camera.cx) == (720, 710, 600)


def test_kitti_depth_selection(tmp_path):
    base = tmp_path / 'depth_selection/val_selection_cropped'
    picture(base / f'image/{DRIVE}_image_0000000005_image_02.png')
    save(base / f'groundtruth_depth/{DRIVE}_groundtruth_depth_0000000005_image_02.png', plain(512, np.uint16))
    (base / 'intrinsics').mkdir()
    (base / f'intrinsics/{DRIVE}_image_0000000005_image_02.txt').write_text('700 0 4 0 701 3 0 0 1')
    sample = KittiDepth(tmp_path, 'val_selection')[0]
    assert (sample.depth == 2).all() and sample.camera.fy == 701


def test_kitti_depth_mistakes(tmp_path):
    """Depth without raw images, 8-bit depth, a wrong folder."""
    truth = tmp_path / f'train/{DRIVE}/proj_depth/groundtruth/image_02/0000000005.png'
    save(truth, plain(512, np.uint16))
    with pytest.raises(EvaluationError, match='KITTI raw, option raw'):
        KittiDepth(tmp_path, 'train')
    picture(tmp_path / f'2011_09_26/{DRIVE}/image_02/data/0000000005.png')
    save(truth, plain(5))
    with pytest.raises(EvaluationError, match='8-bit, not a 16-bit gray PNG'):
        KittiDepth(tmp_path, 'train')[0]
    with pytest.raises(
        EvaluationError, match='no folder data_depth_annotated/val or val; expected there: train/DRIVE'
    ):
        KittiDepth(tmp_path, 'val')


# Registry


def test_registry_names_options_and_kinds(tmp_path):
    """Every opener exists and takes a root; unknown names and options are answered with the known ones."""
    for entry in registry.ENTRIES.values():
        assert callable(entry.function), entry.name
    assert registry.names('places') == ['pittsburgh', 'tokyo247', 'corridor', 'nordland', 'pairs']
    assert 'nyuv2' in registry.names('frames', 'depth') and 'ade20k' not in registry.names('frames', 'depth')
    with pytest.raises(EvaluationError, match="no data set 'cityscape'; known: cityscapes"):
        registry.open_dataset('cityscape', tmp_path)
    with pytest.raises(EvaluationError, match="no option 'part'; it has split, labels, depth"):
        registry.open_dataset('cityscapes', tmp_path, part='val')
    with pytest.raises(EvaluationError, match='not known where .cityscapes'):
        registry.open_dataset('cityscapes')
