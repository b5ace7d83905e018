import json

with open("config.json", encoding="utf-8") as config:
    print(json.load(config)["dog_breed"])
