"""Our own sentences: how users say what they like, and how they say or hint what hurts them.

A sentence is a frame with slots. The instances of every sentence are divided between the splits by
a hash of the filled text (`instance_split`), so no filled sentence of a test conversation is ever
seen in training, while every frame and every phrase is.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping

__all__ = [
    "COMPANIONS",
    "FILM_PHRASES",
    "GENRE_WORDS",
    "HINTED",
    "HINT_FRAMES",
    "LIKED_FRAMES",
    "NEWEST_FIRST",
    "OUTRIGHT",
    "OUTRIGHT_FRAMES",
    "SYSTEM_FRAMES",
    "TASK",
    "WISH_FRAMES",
    "Phrasebook",
    "instance_split",
]

NEWEST_FIRST = "newest first"
TASK = f"List {{count}} films, {NEWEST_FIRST}, as Title (Year)."

LIKED_FRAMES = (
    "Loved {a} and {b}.",
    "My favourites: {a}, {b}.",
    "I enjoyed {a} and {b}.",
    "{a} and {b} were great.",
    "Something like {a} or {b}.",
    "Saw {a} and {b}, both lovely.",
    "More like {a} and {b}.",
)
WISH_FRAMES = (
    "I want {x} and {y}.",
    "{x} first, {y} second.",
    "In the mood for {x}, maybe {y}.",
    "Mostly {x}, some {y}.",
    "Give me {x} or {y}.",
    "More {x} and {y}, please.",
    "I like {x}, then {y}.",
)
SYSTEM_FRAMES = (
    "{x} or {y}?",
    "Rather {x} or {y}?",
    "Is it {x} or {y}?",
    "Shall it be {x} or {y}?",
)
GENRE_WORDS: dict[str, tuple[str, ...]] = {
    "Drama": ("drama", "serious stories"),
    "Comedy": ("comedy", "a good laugh"),
    "Thriller": ("thrillers", "suspense"),
    "Horror": ("horror", "scary films"),
    "Romance": ("romance", "love stories"),
    "Science Fiction": ("science fiction", "space films"),
    "Fantasy": ("fantasy", "magic and legends"),
    "Animation": ("animation", "cartoons"),
    "War": ("war films", "battle epics"),
    "Crime": ("crime films", "gangster stories"),
    "Family": ("family films", "films for all ages"),
    "Adventure": ("adventure", "journeys and quests"),
}

OUTRIGHT_FRAMES = (
    "No {x}, please.",
    "I can not stand {x}.",
    "Avoid {x}.",
    "Nothing with {x}.",
    "I get upset by {x}.",
    "Skip {x} for me.",
    "Please leave out {x}.",
    "Keep {x} away from me.",
)
OUTRIGHT: dict[str, tuple[str, ...]] = {
    "Animal lover (avoid animal harm/death)": (
        "animals being hurt", "a dying dog", "cruelty to animals", "dead pets", "harm to horses",
    ),
    "Arachnophobia / reptile phobia": (
        "spiders", "snakes and lizards", "crawling bugs", "big hairy tarantulas", "reptiles",
    ),
    "Anti-gore / squeamish": (
        "blood and gore", "severed limbs", "splatter", "open wounds on screen", "mutilated bodies",
    ),
    "Avoid torture & extreme violence": (
        "torture", "extreme violence", "brutal beatings", "people burned alive", "sadistic killers",
    ),
    "Sexual violence sensitive": (
        "sexual assault", "rape scenes", "sexual abuse", "forced intimacy", "molestation",
    ),
    "Kid-safety / child harm sensitive": (
        "children in danger", "harm to kids", "child abuse", "a kidnapped child",
        "abandoned infants",
    ),
    "Domestic abuse / stalking sensitive": (
        "domestic abuse", "stalkers", "controlling husbands", "violent partners", "gaslighting",
    ),
    "Substance recovery / avoid drugs & alcohol": (
        "drug use", "heavy drinking", "addiction", "people getting high", "overdoses",
    ),
    "Self-harm & suicide sensitive": (
        "suicide", "self harm", "someone ending their life", "talk of killing oneself", "cutting",
    ),
    "Mental health portrayal sensitive": (
        "asylums", "mad villains", "panic attacks", "mentally ill killers", "psychiatric wards",
    ),
    "Medical/health trauma avoider": (
        "terminal illness", "cancer", "hospital dramas", "dementia",
        "someone slowly dying in a ward",
    ),
    "Needle/medical procedure phobia": (
        "needles", "syringes", "injections", "blood being drawn", "surgical procedures",
    ),
    "Claustrophobia / breathing distress sensitive": (
        "tight spaces", "people suffocating", "someone buried or trapped", "drowning", "choking",
    ),
    "Photosensitivity & motion sickness": (
        "flashing lights", "strobe effects", "shaky cameras", "flicker", "dizzying camera moves",
    ),
    "Hate speech / slur-sensitive": (
        "slurs", "racist language", "hate speech", "bigoted jokes", "insults about disability",
    ),
    "Gender/LGBTQ respect sensitive": (
        "transphobic jokes", "misgendering", "dead gay characters", "mockery of queer people",
        "jokes about men in dresses",
    ),
    "Pregnancy/infant-loss sensitive": (
        "miscarriage", "stillbirth", "childbirth", "lost pregnancies", "abortion",
    ),
    "Disaster/accident avoider": (
        "car crashes", "plane crashes", "explosions", "shootings", "traffic accidents",
    ),
    "Happy-ending preference": (
        "sad endings", "a tragic finale", "heroes who sacrifice themselves", "parents who die",
        "endings that leave me in tears",
    ),
    "Horror avoider (avoids scares & supernatural)": (
        "ghosts", "jump scares", "demons and possession", "creepy clowns", "supernatural scares",
    ),
}  # fmt: skip

COMPANIONS = (
    "My sister", "My brother", "My partner", "My flatmate", "My cousin", "My friend", "My mother",
    "My uncle", "My neighbour", "My roommate",
)  # fmt: skip
HINT_FRAMES = (
    "{who} joins me and {x}.",
    "{who} {x}.",
    "{who}, who {x}, joins.",
    "{who} is here and {x}.",
)
# Never the trait's own words: the reader must infer what to avoid.
HINTED: dict[str, tuple[str, ...]] = {
    "Animal lover (avoid animal harm/death)": (
        "still mourns a terrier", "works at the shelter", "cried for days over a film stallion",
        "rescues strays every weekend", "turned vegan for the calves",
    ),
    "Arachnophobia / reptile phobia": (
        "runs from anything with eight legs", "checks every shoe before wearing it",
        "will not enter the terrarium house", "screams at cobwebs",
        "once met a viper while camping",
    ),
    "Anti-gore / squeamish": (
        "faints at a paper cut", "could not finish the butcher scene",
        "looks away when skin breaks",
        "gets queasy at red stains", "left during the chainsaw part",
    ),
    "Avoid torture & extreme violence": (
        "fled a regime that interrogated people", "shakes when somebody is tied to a chair",
        "testified about the camps", "walks out when cruelty is the point",
        "has nightmares about executioners",
    ),
    "Sexual violence sensitive": (
        "went through something at a party years ago", "volunteers at the survivors line",
        "freezes when no is not heard", "had to leave a film when consent vanished",
        "still sees a counsellor about that night",
    ),
    "Kid-safety / child harm sensitive": (
        "just became a parent of twins", "teaches kindergarten", "brings a toddler along",
        "fosters little ones", "lost sleep over a missing schoolgirl",
    ),
    "Domestic abuse / stalking sensitive": (
        "only just moved out from an ex", "changed the locks last month", "has a restraining order",
        "once hid from a jealous spouse", "is finally free of a bad marriage",
    ),
    "Substance recovery / avoid drugs & alcohol": (
        "is ninety days sober", "goes to meetings on Tuesdays", "poured the last bottle away",
        "just left rehab", "keeps a sponsor on speed dial",
    ),
    "Self-harm & suicide sensitive": (
        "lost a classmate who gave up", "wears long sleeves for a reason",
        "was found on the bridge in time", "answers a crisis line at night",
        "keeps the goodbye note of a friend",
    ),
    "Mental health portrayal sensitive": (
        "takes lithium and hates cliches", "lives with voices and is gentle",
        "was committed once, unfairly", "is tired of being the movie maniac",
        "has a bipolar twin and a short fuse about stereotypes",
    ),
    "Medical/health trauma avoider": (
        "spent spring beside an oncology bed", "just finished chemo",
        "cares for a forgetful father",
        "had a stroke in May", "can not smell disinfectant anymore",
    ),
    "Needle/medical procedure phobia": (
        "skips every vaccine appointment", "passed out at the blood bank",
        "needs gas at the dentist",
        "turns pale at an IV drip", "hates the nurse with the tray",
    ),
    "Claustrophobia / breathing distress sensitive": (
        "takes the stairs instead of the lift", "has asthma and panics along",
        "was once stuck in a cave", "never dives below the surface", "opens all windows at once",
    ),
    "Photosensitivity & motion sickness": (
        "has epilepsy", "got seizures from a video game", "felt seasick in the front row",
        "wears tinted glasses for migraines", "throws up when the picture wobbles",
    ),
    "Hate speech / slur-sensitive": (
        "was called names all through school", "is the only black kid in class",
        "heard enough at the synagogue gate", "uses a wheelchair and hears it daily",
        "walks out when people punch down",
    ),
    "Gender/LGBTQ respect sensitive": (
        "came out last year", "transitioned at thirty", "marches at pride",
        "uses new pronouns now", "is tired of being the punchline in a wig",
    ),
    "Pregnancy/infant-loss sensitive": (
        "has an empty nursery", "never got to use the crib", "lost the baby at twenty weeks",
        "is expecting after three tries", "avoids the maternity floor",
    ),
    "Disaster/accident avoider": (
        "survived the pileup on the motorway", "will not board a flight",
        "was near the blast downtown",
        "hears tyres screech in dreams", "ducks when a door slams",
    ),
    "Happy-ending preference": (
        "needs to leave the cinema smiling", "is still grieving and wants comfort",
        "reads the last page first", "wants everyone safe at the credits", "only sobs lately",
    ),
    "Horror avoider (avoids scares & supernatural)": (
        "sleeps with the lights on", "believes the attic creaks on purpose",
        "hides behind the pillow", "crosses the street at the cemetery",
        "would not touch an old doll",
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phrasebook:
    """What users of one domain say. A frame has the slots that its comment names."""

    task: str  # {count}
    liked_frames: tuple[str, ...]  # {a}, {b}: titles
    wish_frames: tuple[str, ...]  # {x}, {y}: words of `genre_words`
    system_frames: tuple[str, ...]  # {x}, {y}: the same
    genre_words: Mapping[str, tuple[str, ...]]  # how each genre is called
    outright_frames: tuple[str, ...]  # {x}: words of `outright`
    outright: Mapping[str, tuple[str, ...]]  # what a user with the trait rejects
    companions: tuple[str, ...]
    hint_frames: tuple[str, ...]  # {who}: a companion, {x}: a hint
    hinted: Mapping[str, tuple[str, ...]]  # what somebody's life says about the trait


FILM_PHRASES = Phrasebook(
    task=TASK,
    liked_frames=LIKED_FRAMES,
    wish_frames=WISH_FRAMES,
    system_frames=SYSTEM_FRAMES,
    genre_words=GENRE_WORDS,
    outright_frames=OUTRIGHT_FRAMES,
    outright=OUTRIGHT,
    companions=COMPANIONS,
    hint_frames=HINT_FRAMES,
    hinted=HINTED,
)


def instance_split(text: str) -> str:
    """The split of a filled sentence: one in ten test, one in ten validation, else train."""
    bucket = zlib.crc32(text.encode()) % 10
    return {0: "test", 1: "validation"}.get(bucket, "train")
