"""HEIC and AVIF files that nothing in the test environment can encode, made by ``make_heif_samples``.

Compressed by zlib and in base64.
"""

from __future__ import annotations

import base64
import zlib
from functools import cache


@cache
def sample(name: str) -> bytes:
    return zlib.decompress(base64.b64decode(_SAMPLES[name]))


_SAMPLES = {
    "heic 4:2:0": (
        "eNpjYGCQSSupLMhIzUxmAILczDRDEDs3MzGNgYGxNje1JJEBAhQzUnKKoGyGgszkEgY0oJSZkw82xMWBgREIgYBxIYQGghNArJyZmZcG5oFE"
        "RYGcVCYoL6Ms2RDE5CvILMmFK/mbWVBUAKTvZhYk5wPpMqAyZ0ZmkNAEsCK5Dwx//v74wcDAz5wA1CHhwMjD+P8/SAEzSAUzCMntYnJIBEpq"
        "OTEyosksUGhknfbqybKdOzgyDBSAQswggkExCaiczYXxYPGBTqAlwsn5OUV5yTkVQFFeBrYGoJBIZnFBKtRnDlCskZyTCHKZAdTxCiD6////"
        "H4A0E5B+AKKBWKAgsyITpJGZg4MDSElkFuTCAhkYbqyNTMysLUD2hdyURFAgH9FgXM/yozDvtiTbpGX+2U2+poZer7f9lC3pmDXtRER3TNgN"
        "zz+z5eQv/WP/e79+wvy1RfKXb/81vsy+nZ91znn/1vrbtW9Oe8+M3b2vdcaZc+1qvFJ8OV5dpx09Ik6+6/7kkhLwbK+p6bf/Ey/dYnj/+8/n"
        "D7xrNt3aVT7z+8Ofti4C8u7fEl6tfeZZs/DXD/HGULW2uvnnVPba8vhYBzxv5ZErC4vLv52sdLXNc6HVz62f7ugoJIvU7dtWz/kn6au+DEuj"
        "kCX35CsHRe4n/QMAsaqzew=="
    ),
    "heic 4:2:2": (
        "eNpjYGCQSSupLMhIzaxgAILczDRDEDs3MzGNgYGxOje1JJEBAhQzUnKKoGyGgszkEgY0oJSZk58MYrg4MDACIRAwzofQQPAZiJUzM/PSwDyQ"
        "qCiQk8oE5WWUJRuCmHwFmSW5cCW/MwuKCoD07cyC5HwgXQJU5szIwgFkzrUAKZL7wPDn348fDAz8zAlAHeIOjDyM//+DFDCDVTADlexickgE"
        "ymk6MTKiSmxQaGSd9urJsp07ODIMFIBizCCCQTEJqJrNhfFg8YFOoBXCyfk5RXnJORVAUV4GtgagkEhmcUEq1F8OUKyRnJMIcqoB1OkKIPr/"
        "//8fgDQTkH4AooFYoCCzIhOkkZmDA+QPicyCXFgQA0ONtZGJmbUF5PXclERQEL/XYFzP8mN5wc1/33jtfi3zz27yNTX0er3tp2xJx6xpJyK6"
        "Y8JueP6ZLSd/6R/73/v1E+avLZK/vK968Q39bNUo/apNL/1Sn5nX3cq6EFZcc3hbsPP5Hwy/t7bu/Sf/1H7bRw+TyoTwtbYTtVdc7mKwjf/W"
        "O8HlubrG+136J2fN9+BgtM6sfNF1cd/DlSaeOjr/he3SLzH6GB4wftzBdufOik+SZ39u/bXl5K3bhs88axb++iHeGKrWts2scc8jT6m49cu/"
        "b7Q3XJm7cfHMsqctYssDn7N4LrT6uemEok9n7BpXzrs7Ctocq7LNFe4q6GqLmndH9/ZkBqf7r04AAFlfyH4="
    ),
    "heic 4:4:4": (
        "eNpjYGCQSSupLMhIzaxgAILczDRDEDs3MzGNgYGxLje1JJEBAhQzUnKKoGyGgszkEgY0oJSZk58MYrg4MDACIRAwLoLQQHAHiJUzM/PSwDyQ"
        "qCiQk8oE5WWUJRuCmHwFmSW5cCX/MguKCoD0vcyC5HwgXQ5U5szIwgFkzrMAKZL7wPDn/48fDAz8zAlAHeIOjDyM//+DFDCDVTADlexickgE"
        "ymk5MTKiSkxgEVDYdDdmynVzRl42FpBYCohgUUgCKudwYTxYLGHAMQFoi3Byfk5RXnJOBVCcl4GtASgkkllckAr1mgMUayTnJIJcawB1vQKI"
        "/v///wcgzQSkH4BoIBYoyKzIBGlk5uAAeUUisyAXFsrAgGNtZGJmbQGyn+SmJIJC+YYG43qWH3MErgc5uidmqZVtEz7T1MR9QalAfd73g7xb"
        "6tWOt3/mL7+fFd+yek5HXc0et78+QbZnzx/9tfOt8Pktls8fL75749mGmPc9Nm2+v1ntIlgPVMy86fnTZNVFozePdU+JLfXhEiu53BFvNmu7"
        "tokxZyVTasj3Q7nZzPoaZjcYnzaynDuSxK6l/nt/crTUtCWWRbXFmhwMC6ct2PhQYOq/Xx6zf14/ZzA/N3K6yaQay4utNy7d723KUV56rufw"
        "wgNPDpt/W1bQFcSwNFwxwczxc0d/FIf0W8PYEOvr/w88mw8ADme4Jg=="
    ),
    "heic 47x31": (
        "eNpjYGCQSCupLMhIzUxmAILczDRDCJuxJje1JJEBAhQzUnKKoGyGgszkEgY0oJSZkw82wMWBgREIgYBxDoQGsmyBhHJmZl4ahAvEokBOKhOU"
        "l1GWbAhi8hVkluTClfzJLCgqANJ3MguS84F0KVCZMyMzSGgCWJHcB4Y/f3/8YGDgZ04A6pBwYORh/P8fpIAZpIIZhOR2MTkkAiU1nRgZ0WQW"
        "KDSyTnu1btazB4oLDjQwMPA0gIRbkoCq2VwYDxYf7ATaIZycn1OUl5xTARTlZWADKmEQySwuSIV62wGKNZJzEkEO04e6XR5E/////z2QZgLS"
        "90E0EAsUZFZkgjQyc3BwACmJzIJcWBgDg421kYmZtQXIdM1NSQSGMaOlBuN6lk8cTZlaDYX5adqtM+9myG+W/yN85dvr3fVH3u8uqznbw2t/"
        "9PzzDve4ZvMZkilJNyV02A6JBR+Pk3rmeLrMvVsk94y4+hTlrZ8spqcKKlWrV94rsmheJSx1LN3e2EettDX6o0TN2hvp9p5itn+Zb71Ydujm"
        "JZs7Z1KC5ytw7vS87bdPgIVJWWJjSHSd5uzMQOHrKStinGM/bnPo1qlytvm4QIL1WdftZt6ngRWPTx5RbKxV/+FdfWjmqzeuj3Xfdb1maz0X"
        "sNlXTlH0i+vB2xdWSPz9VrHldmGasmzvvcAXk/2XmE+xjJH4Yru0Pd3ihrN31SWNtuJHur8V3XMfVBdNYRaxCI7/w7ixd2PKmWb2rCvn3m9Z"
        "WjSpNVudyaD5yfvaT3b7VGdab//XsOf/650F+mGtihEhmUlTHvnp/r8yvW39DwDRReVm"
    ),
    "heic grey": (
        "eNpjYGCQSSupLMhIzaxgAILczDRDEDs3MzGNgYGxNDe1JJEBAhQzUnKKoGyGgszkEgY0oJSZk58MYrg4MDACIRAwzoTQQBALxMqZmXlpYB5I"
        "VBTISWWC8jLKkg1BTL6CzJJcuJKvmQVFBUD6amZBcj7IWqAyZ0YWDiBz/g+QIrkPDH/+/AAy+ZkTgDrEHRh5GP//BylgBqtgBirZxeSQCJRT"
        "dWJkRJU40MQiFr160qxnBxoYGHgaQIItSUCVbC6MB4sPdAKNF07OzynKS86pAIryMrABlTCIZBYXpEL95ADFGsk5iSBnGkCdrQCi/////wFI"
        "MwHpByAa4rmKTLDfQD6QyCzIhQUuMLxYG5mYWVuA7NTclERQ4EZqMK7j/JAS/EB7rqrM6rS/Yd+sfha07N41cd+K7a/8A1RO3vedffYUU4Hu"
        "i1Pft5x9PsWBRe7wkZX1D16387TX3Za40HNzZvoc591f8r9V1W/IfOPx4WJQpHn+jt7KBACdDIAz"
    ),
    "heic grey, 10 bits": (
        "eNpjYGCQSSupLMhIzaxgAILczDRDEDs3MzGNgYGxPDe1JJEBAhQzUnKKoGyGgszkEgY0oJSZk58MYrg4MDACIRAwzobQQBAGxMqZmXlpYB5I"
        "VBTISWWC8jLKkg1BTL6CzJJcuJLvmQVFBUD6emZBcj6QLgIqc2Zk4QAy5/4AKZL7wPDnz69fDAz8zAlAHeIOjDyM//+DFDCDVTADlexickgE"
        "yqk7MTKiShxoYhFO3bVTc10OWPgEiOBwSAKqZXNhPFh8oBNogXByfk5RXnJOBVCUl4GtASgkkllckAr1lQMUayTnJIIcagB1uAKI/v///wcg"
        "zQSkH4BoiPcqMsG+4wISEpkFubDgBYYYayMTM2sLkB2Xm5IICt4gDcZ1nB9O7jrsqdF6blJf6Oa6GR/jaqpj6rYtN+MyVbz8/L3diTfzj7x/"
        "IL/y8OtPv7TO1txVW/xVfvrx0xK6K9Ovc5/c9aT+WP1j+RWzRJaeeK62e0H2AQChQnwu"
    ),
    "heic alpha": (
        "eNpjYGCQSSupLMhIzUxmAILczDRDEDs3MzGNgYEpOze1JJEBAhQzUnKKoGyGgszkEgY0YJKZkw82xMWBgYmBEcRi6ofQQHACKAYEzOFwkWIg"
        "tsjMzEsD80CyokBOKlgZUE1GWbIhA4ogE0KQryCzJJcBqpJxVWZBUQGQbsosSM4HipUBlTkzMgOFGCaAFcl9YPjz98cPBgZ+5gSgDgkHRh7G"
        "//9BCphBKphBSG4Xk0MiUFLLiZERTWaBQiPrtFdPlu3cwZFhoAAUYgYRDIpJQOVsLowHiw90Ai0RTs7PKcpLzqkAivIysDUAhUQyiwtSod51"
        "gGKN5JxEkMsMII5nUADR/////wDyIZB+AA0MgYLMikxwkHFwcICCHOwpFhBz/g+Yp/4gPCUO8RRIATNYBdDtMD+pAv2EKnGgiUUsevWkWc8O"
        "AN3J0wASbEH1Dh/MfkaQleqJpRXOIF5pUZ5VbkFqulVGalmylZGBoakVUCozxQocLwqZBbmwBANMA6yNTMysLQxMrG3M7B0tQDGpzKLUNKg8"
        "H1BfDjilgOLQOTclEZSkjmgwrmf5UZh3W5Jt0jL/7CZfU0Ov19t+ypZ0zJp2IqI7JuyG55/ZcvKX/rH/vV8/Yf7aIvnLt/8aX2bfzs8657x/"
        "a/3t2jenvWfG7t7XOuPMuXY1Xim+HK+u044eESffdX9ySQl4ttfU9Nv/iZduMbz//efzB941m27tKp/5/eFPWxcBefdvCa/WPvOsWfjrh3hj"
        "qFpb3fxzKntteXysA5638siVhcXl305WutrmudDq59ZPd3QUkkXq9m2r5/yT9FVfhqVRyJJ78pWDIveT/gH9ka/BuI7zw0Ixnx1Cb7uOBk9d"
        "XbxIe83/H0Wz3ygs4twgd3oPv++2C3v/9D/7f+r+7Qs9DGr6Kc3eT6OPvZAtqRDRbJqr8MTPbt/NR6uY5+7n6lBL178zt9l/OssPhomLmiIe"
        "ymz8/C6uwnPRD7n+5blKmh9/RMcBAF64HH0="
    ),
    "heic 10 bits": (
        "eNpjYGCQSSupLMhIzaxgAILczDRDEDs3MzGNgYGxJje1JJEBAhQzUnKKoGyGgszkEgY0oJSZk58MYrg4MDACIRAwLoDQQHAAiJUzM/PSwDyQ"
        "qCiQk8oE5WWUJRuCmHwFmSW5cCV/MguKCoD0ncyC5HwgXQpU5szIwgFkzt0BUiT3geHP31+/GBj4mROAOsQdGHkY//8HKWAGq2AGKtnF5JAI"
        "lNNyYmRElVig0MhyM2+dV/bshrZmJpCYEYhgEkgCKmdzYTxYfKATaIdwcn5OUV5yTgVQlJeBrQEoJJJZXJAK9ZgDFGsk5ySC3GoAdbsCiP7/"
        "//8HIM0EpB+AaCAWKMisyARpZObi4gJSEpkFubAwBgYbayMTM2sLkH0iNyURFMZ7NBjXs/wozLstrGU71XPTJBYXbbvAV0ulzBc5JX0Imrp8"
        "2v/LG9O/7G/8X6H+JOTVivYv3/57Nza+PXww3fjywwLeqrc3o558C+5j/Rz7/dyllrN2h/5+ur/2/vcndfpTfeJmf/r9zmu1gxwL/8O1n46y"
        "nbbXimy/sm3jZ7NXddxvFd9eKOou72LRjlh/s33n+/NqAhunJE803y6/Rmnd8pVSURNfuXtzCz4UZv6wySxfWvHHw8h0W9+bzjtXF7/IWzuJ"
        "bVabyQcAM5G0Fg=="
    ),
    "heic 12 bits": (
        "eNpjYGCQSCupLMhIzaxgAILczDRDCJuxJje1JJEBAhQzUnKKoGyGgszkEgY0oJSZk58MYrg4MDACIRAwzoHQQLATiJUzM/PSwDyQqCiQk8oE"
        "5WWUJRuCmHwFmSW5cCV/MguKCoD0ncyC5HwgXQpU5szIwgFkztwBUiT3geHP3z9/GBj4mROAOsQdGHkY//8HKWAGq2AGKtnF5JAIlNNyYmRE"
        "lVig0MgSNO3Vk2U7d3BkGCgABZlBBINiElA5mwvjweIDnUA7hJPzc4ryknMqgKK8DGwNQCGRzOKCVKjHHKBYIzknEeRWA6jbFUD0////PwBp"
        "JiD9AEQDsUBBZkUmSCMzDw8PkJLILMiFhTEw2FgbmZhZW4Dsg7kpiaAw3qrBuJ7lR2Heo3pbBv1X9efiN/nOZhG4/ubys9UvKj/+XW386t/c"
        "bvulf/h/H7RXWh7MYr98+6/0L5LdsU3n0pcfeiC4c06WsXyIVq305Fdbvt45/Ij79r9TYhlRf2Y/Fs3dU1hh67pcfM6EkqkNRxeX8K1f0SmR"
        "bCkqLvrV8Py1z18/6DOtinpnfd7Kco7Q9PtNnY/9Gf2X3KpXUBW5uajhLlvEPq589+dzVyzZ+UltY2Ohx4m2fYdVl2v9O79udhwAGT2s5Q=="
    ),
    "heic 12 bits, alpha, 50 megapixels": (
        "eNrt3V1oU2ccx/HnnBNrdOmbVqyKpV7Ylw1c4wuWMKW2FTZREFFoUUrSNFkel7THNNZuOFCG6IWiFwp64UuhG14IejfXMQzsZoiClxvSXQ28"
        "UEfZlReF+pzknHRVBC/8C4Xv4d/k5Hme/PLkkyfJoRc5SqnGdOFbN5PS48psOZ2OlvftfblUIaHK24bMUDbv7ytXJwvqjW2rzo4kvZ3eLmUr"
        "y9uzc+VrpUafmzazjfUFLe1N5qJT6+F06abXu8rcSJWGmTGZsWRULWi05xtrXF3IKX+kdV67eddcp7WbHDFtJ82wHisUNrtXO71Bv82o2bnZ"
        "WaVqnbi5x+ouK2LNzXkDnNIIxwyZsrsSpu/zbsta2HFJrZtQ1U/+fXhgunXjxsfFnl2nvY413oUVHjT3CfdaRbcjHm02D7UyOZLNDyez46a9"
        "WlWdMk0NetRNlZ/0uhvlP1Xn6nHttTiRSMRzmZ/ytVfBlGffMWVvxP+m/FllykFH0Sk0W1Pr/9pzePKfyV/umXk5jnehNnjTrTLTPfbDijJj"
        "eRaWN4fWxPHxHu/W8fxwLOemvo5lUmPJ2OaO6LaY6dJDsZJ9k3ZzwaIwr3PotO2ElB0641SdNS1rdT6V9ntrzL2ypbVgXqXr9bmhhFk0o8/a"
        "rDsri3+3bGk415O4dP/gp6uWn+me2H/7Y+5c/PH3Cy8eTf13Z/vZm7vuxktqlFnPCWvH5dtALKiWZhAWVKgXhPmyB0ColP0TBkFtu4VC8L3S"
        "D4JfzlEQ/FpyHgS/qqAIaukXIAQUr0DwK9wHgl/LGkEIKO6D4NfyNhACCv6DEdQnX4LgVyQMQkBxFQS/qlkVFQpWRVA1HGJVKDiuqFBwtBlU"
        "LccVFQo+NqF4m2IGBL/qXBACinsg+FVfB0JAwRsECiigeB+KJyD4taIDBFYFFLxBoIACCiiggAIKKKCAAgoooIACCiiggAIKKKCAAgoooKCg"
        "gAIKKKCAAgoooIACCiiggAIKKKCAAgoooIACCiiggAIKKKCgoIACCiiggAIKKKCAAgoooIACilIt+0Op9rXlU31+338s/uC7l09/Hp7+dUzi"
        "6vKJyJUdAw/2iD+tlnjNZJf4o3yE81dYW4QfolH4l05r/xTNt/ZJxi89KZneIPrLqs2iZ0NtE01vF03fJJoeFT1L8VbR9E7R9JjoeTZ3ir6q"
        "3aLfJruLkulfic59r+jc94vO/YBo+iHR9L7i4k0/Ipo+IJoeF00fFE0fEk1Pia73tOjcM6LpWjT9qKj7N4s4PbuY04ukk0466aSTTjrppJNO"
        "Oumkk0466aSTTjrppJNOOumkf/B0S78G/2EoTg=="
    ),
    "avif 10 bits": (
        "eNpjYGBQSCupLEgsy0xjAAIQnZuZZpibmZjm62joBBR6nZtaksgAAYoZKTlFUDZDQWZyCQMa4CvILMkFsxiBWC4zJz8ZxHEB8RkhoozCQPoE"
        "EGtkZualwdVKATmpTFBeYpmBoXN+Tj7YrqzMgqICIO2dWZCcD6RFMosLUqH2GQCxAhALFGRWZIIEmLm4uIAUT2KZoXMjgw9ISDg5P6coLzmn"
        "goEJCNkagELimQW5MD8BHcbCyNTMAmReyE1JLBFi4OKUENX/HcLBISVgtINR+Hh7WypTl8Y+RhaGj9PfrNCqlF3//ef0i99fl3i7LvgbtUS7"
        "aNmRberGV4v9HV+JzBZ/Visqt6Lt9qllvY53fifffJq/4LmJXekNy9uuW9xTW+NErP+uFg9heiG7c0bcX9vbhsu9eXZXMScZPrDfyeaips36"
        "a8H22cKdxis+vTkhlqXf8KfqSeNWlq/HXpgZWAo3XAuUz/U7/kJW4WzVxB+C91qXKGeoFS1R/TPn1pMvp+KMWD8k7xCKvpG1W/mbThwA3cSM"
        "Zg=="
    ),
    "avif 12 bits, 4:4:4": (
        "eNpjYGCQSSupLEgsy0xjAAIQnZuZZpibmQjiv85NLUlkgADFjJScIiiboSAzuYQBDfAVZJbkglmMQCyXmZOfDOK4gPiMEFFGfiB9Bog1MjPz"
        "0uBqpYCcVCYoL7HMwNA5PycfbFdWZkFRAZD2zixIzgfSIpnFBalQ+wyAWAGIBQoyKzJBAsw8PDxAiiexzNC50SEBJCScnJ9TlJecU8HABIRs"
        "DUAh8cyCXJifgA5jYWRqZgEyr+SmJJYIMXBxRojq/45iYeEVMNrDKHwoWa3RVSSeoYnh4/TX1zXuzQyUmefHsKTmys2UY7NdRYPebzRbprn/"
        "QaE2B0fs9FsLp2RHHvPMOJDCu/6tyJT0M4fYuFdO3V3IkO+7bs689IUTLK6z/5d+xmv2qCPhapC/8Juao69WzlnZWHLFwKjoQ4L4/h9MX+rN"
        "RRhzj7HqmxxuPbHOiedJ7nGdyB1tyc8X+p7zM9GzWWNXa7BI+wOryfFnO/o1Y1L4fzwJCLqXIpR6qsvwr7Bh6e/zOzmOXv+54kziFgDI9otj"
    ),
    "avif grey, 10 bits": (
        "eNpjYGCQSSupLEgsy0xjAAIQnZuZZpibmQjiv8xNLUlkgADFjJScIiiboSAzuYQBDfAVZJbkglmMQCyXmZOfDOK4gPiMEFFGXiBdAcQamZl5"
        "aXC1UkBOKhOUl1hmYOicn5MPtisjs6CoAEh7ZhYk5wNpkcziglSofQZArACxtyITrJkLSPAklhk6NzLEgASEk/NzivKScyoYmECwASgknlmQ"
        "C/MR0FksjEzNLEBmQ25KYokQAxebhKj+b6kGoxwBho8T3U4879PeWnLouu9Bnomyeg6KM8T0Xq1tinf6G8OXtkRHtmHqrKrpO9/OiV2+5fPk"
        "HDH3MEnLFL2On9LT0qc5Lt/H/nWHI+vfKBEtwflpD3yYo5vb06bc+Bj7YhuD4139tanlSmuDs9X4f3DqPAcAkhxgGw=="
    ),
    "avif 12 bits, alpha": (
        "eNpjYGCQSSupLEgsy0xjAAIQnZuZZpibmQjkM7blppYkMkCAYkZKThGUzVCQmVzCgAb4CjJLcsEsRiDWyczJTwZxXBgYmMAiQMwUBqT3A/lg"
        "HuMqIL0GiJ0yM/PA1oNlpICcVCaoOYllBobO+Tn5YJsRMkwQGcecgoxEiExRahrMHYmlFTlgO0G2Hs4sKCoA0nMzC5LzgbRIZnFBKlSlARAr"
        "ALFAQWZFJkiAmYeHB0jxJJYZOjc6ZICEhJPzc4ryknMqgCYyMbA1QDwKUc6IpLgGJGABtNoZxCgtyrPKLUhNBxNOVsmZyQVWxZXFJam5xVZA"
        "NZk5mYlFlVaJMOfLZRbkwsIZ6HAWRqZmFgYmFkbWNnagLcW5KYklQgxcbBGi+r9lHYzmMwowfEz+zGi/u3cp51GuTVkTbDnbq7Pnic77Ehbz"
        "8rvsngc/TSbP/Vn8qi189+m/lW4h5duCcm9XM3CJ7Ng4+aTin7l/jl7+JH62MNNpCVtewOz4PU8v7UpucucIWamuMc95TtQtDpaZLf/CPVQ+"
        "LTZ+xhNz+dn8g8lJqopRu/0M5nsdSP7kpJBn5hBiKpSpqfD1tGzPEk4DNuczi17rr+14XK7cZsV4AOhWTpBbo1hYeDuM1jMKH5I2anQViWdo"
        "Yvg4/fV1jXszA2Xm+TEsqdk00zLLOvCLtaWt7N+u7EdxwX9fMf/ZnTjrfsbH2fJT/bQ3GZv2L1URsMjNsjwjkMYn0Tllwrote7nC15u0Gm7X"
        "m2pal1uSZB0mP293gNL67qtO2SLvEhbLPq53XvR685ftUxjT31yec/da392NSWmqrxfOuNh2LmMy458rpw5xXve8dLdm7h23ek/FK1YTzs8v"
        "/zqhryqlqXmeb3PfbQANevhz"
    ),
    "avif 12 bits, alpha, 50 megapixels": (
        "eNpjYGCQSSupLEgsy0xjAAIQnZuZZpibmQjkM7blppYkMkCAYkZKThGUzVCQmVzCgAb4CjJLcsEsRiDWyczJTwZxXBgYmMAiQMx3BcipB/LB"
        "PMZVDAy8WkC2U2ZmHth6sIwUkJPKBDUnsczA0Dk/Jx9sM0KGCSLjmFOQkQiRKUpNg7kjsbQiB2wnyNbDmQVFBUB6bmZBcj6QFsksLkiFKJSe"
        "D8EMAgWZFZkgEWYeHh4gxZNYZujcGJ8AEhJOzs8pykvOqQCayMTA1gDxKEQ5I5LiGpCABdBqZxCjtCjPKrcgNR1MOFklZyYXWBVXFpek5hZb"
        "AdVk5mQmFlVaJcKcL5dZkAsLZ6DDWRiZmlkYmFgYWdvYGRj4N+amJJYIMXBxxH82t935zqrBaLaUgAIDw2rGr6dmlrwuc7xsf9zZNOjxQvXV"
        "B+6siqyRvjg3N3NrwP09wULTjFKSd5pr9u9R7/acVXhV0YHvM9P5WQ+2TiuyYfnXFuf1PTQh89i2wr0Xzyy8clIks2jy5a1ShRW/1L4dLvz/"
        "8/Ehhm1G7uaTf26/sHqiwtste622tjQkxebXbDx3cWLOt+VH4zY8+NJ3a7fiq5/feO/KTFlzz0hZYZuUU9STlKRtj+Ye2XNj5eInf3km8cxO"
        "qHRPv+iX6Lz5xXKDhTdka3+q3PHbs5xFLGbyiZ0WU3euVG/P0zwtLs6Z3Z1mqry/0MF50U/xnT19HK/3vMkz136WmuI9TU/3T+VRRr7uJ3HP"
        "jCyU1/1ddOLvxMjI79VKW5zffemSbbx+3Uz0nP1ecXVLmXb7LrfGIu77Vyt2X9IoDVzxuYnru4vlnyAT7h+fu5i49N6nGIt4zREI36V4/tHE"
        "BfHH5wQIBJZXK23+cYpfZXZOSFyDWL2k45PJuV3TP+UpO+zvN0tezbMy/rldjWyn+GTL8JtestubsvdzWPK+rG7N0J0YWT/n54cylaS565Z4"
        "JKtw2E2y2vQ3JMvmsF1KOavivqkrDz+JWGvf47CAjNgyvlBTlhzacUBnUQJbl2NO3nul9W/F+uda9RkofON8e88xyT7Feyf3wzM8aeemVFlX"
        "cEdmPk/cvvrTKz2J1FPMQq+rn/aV3TubV/zN6UDzmUk//Z/E7lphNblePd33lVv6ol7vmXL33Rb94c9fHFjHvv3iiv3Mt1/MifKduOCV5+5i"
        "Ff+Hsef2LP+wrvAfZ2/C9Zn7E523NHrumFvpx6GzU31iUfHEk3Z54WfOhEzXiYn+8bmqQmVn0qP7oLB8sc/1XbJyk9X7Wzr9NzPu33NLPBZ7"
        "sab7zjF3ltL7WyLlN13cv6fnyoOm05PibwS8S+Rt5Xf7oakX0bTxTuPuqYlTdSRnalzLKnCMe9HMuuKC/uNzGhwau/dOjPyTyj7Jd5sWUM/b"
        "/pUvOzgnbUvuPIEic3JHL9M/m5t9K3eFN/0AGVd2a714lcZeJKk1Bi2PNEG64p0C11xBi6IJoxlqNEONZqjRDDWaoUYz1ODMUFNHM9SgylCb"
        "ipxDdO9nLBnNOAOfcYwffHX9/iOrAthT4gb3lJ5t4eCQUjB6yyLA3nLMl6lLYx8jCwOD9/mzUusl592uuP6c02xly23xn5fCEznKtx6IVyng"
        "1dp1UWDGgeNKj18sZZr+oF/okY3bYdOWF81Gk3sjnp6YkvL33jmDD2pl7x+s6+jZ1HW/w4sow97Or+XPEXo094ZpgvNqgZecx4K0TFmXPX/4"
        "bKXdh5urD6zcOovtw7czow4j1WGeVHPYJGq56nMDAPEpT8M="
    ),
}

#: Of the small ones.
NAMES = tuple(name for name in _SAMPLES if "megapixels" not in name)
