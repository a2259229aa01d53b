"""Places seen before, free of ROS and deterministic: loops, a corrected map, localisation in a saved one."""

from mt_perception.place_recognition.keyframe import Keyframe, View
from mt_perception.place_recognition.localization import Localization
from mt_perception.place_recognition.map_file import MapError
from mt_perception.place_recognition.parameters import PlaceParameters
from mt_perception.place_recognition.recognition import PlaceRecognition

__all__ = ['Keyframe', 'Localization', 'MapError', 'PlaceParameters', 'PlaceRecognition', 'View']
